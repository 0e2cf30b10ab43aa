//! `cargo xtask bench NAME`: benchmarks with targets.
//!
//! The benchmarks are the `bench` targets of the workspace, so cargo's manifests are the registry:
//! `tests/benches/echo_io.rs`, with `harness = false`, is `cargo xtask bench echo-io`. Each takes
//! `--report FILE` (and ignores the `--bench` that cargo adds) and writes a [`Report`] there.

use std::{ffi::OsString, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    fio, libtorch,
    process::{self, Interrupt},
    say,
    workspace::{Metadata, Workspace},
};

/// What a benchmark measured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    rows: Vec<Row>,
}

/// One figure, and its target where it has one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    what: String,
    value: f64,
    unit: String,
    at_most: Option<f64>,
    at_least: Option<f64>,
}

impl Row {
    /// Returns whether the figure meets its target; one that is not a number meets none.
    fn is_met(&self) -> bool {
        self.at_most.is_none_or(|limit| self.value <= limit)
            && self.at_least.is_none_or(|limit| self.value >= limit)
    }

    fn target(&self) -> String {
        match (self.at_least, self.at_most) {
            (None, None) => String::new(),
            (Some(least), None) => format!(">= {least:.3}"),
            (None, Some(most)) => format!("<= {most:.3}"),
            (Some(least), Some(most)) => format!("{least:.3} to {most:.3}"),
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.target().is_empty(), self.is_met()) {
            (true, _) => "",
            (false, true) => "met",
            (false, false) => "MISSED",
        }
    }
}

/// A benchmark, as cargo knows it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Benchmark {
    target: String,
    package: String,
}

impl Benchmark {
    fn name(&self) -> String {
        self.target.replace('_', "-")
    }
}

/// Runs the benchmark `name`; with `check`, fails where it misses a target.
pub(crate) fn command(
    workspace: &Workspace,
    name: Option<&str>,
    check: bool,
    interrupt: &Interrupt,
) -> Result<()> {
    let metadata = workspace.metadata()?;
    let benchmarks = find(&metadata);
    let mut known: Vec<_> = benchmarks.iter().map(Benchmark::name).collect();
    // No target of cargo's, because it builds and drives several programs.
    known.push("peers".to_owned());
    let Some(name) = name else {
        return say(format_args!("the benchmarks: {}", listed(&known)));
    };
    let Some(benchmark) = benchmarks.iter().find(|benchmark| benchmark.name() == name) else {
        bail!(
            "there is no benchmark {name}; there are: {}",
            listed(&known)
        );
    };
    let flags = prepare(workspace, benchmark, interrupt)?;
    let folder = metadata.target_directory.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let file = folder.join(format!("{name}.json"));
    let mut cargo = cargo_bench(workspace, benchmark, &file)?;
    process::run(cargo.args(flags), interrupt)?;
    let report = read(&file)?;
    let missed = print(&report)?;
    say(format_args!("written to {}", workspace.shown(&file)))?;
    ensure!(
        !check || missed == 0,
        "{name} missed {missed} of its targets"
    );
    Ok(())
}

fn find(metadata: &Metadata) -> Vec<Benchmark> {
    let mut found = Vec::new();
    for package in &metadata.packages {
        for target in &package.targets {
            if target.kind.iter().any(|kind| kind == "bench") {
                found.push(Benchmark {
                    target: target.name.clone(),
                    package: package.name.clone(),
                });
            }
        }
    }
    found.sort();
    found
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none yet".to_owned();
    }
    names.join(", ")
}

/// Gets what the benchmark needs, and returns the flags that tell it so.
fn prepare(
    workspace: &Workspace,
    benchmark: &Benchmark,
    interrupt: &Interrupt,
) -> Result<Vec<OsString>> {
    if benchmark.name() == "spill" {
        let fio = fio::find(workspace, interrupt);
        return Ok(fio.map_or(Vec::new(), |fio| vec!["--fio".into(), fio.into()]));
    }
    libtorch::ensure(workspace, interrupt)?;
    // Some start the server as a process of its own, which lies beside them.
    let mut binary = workspace.cargo();
    binary.args(["build", "--locked", "--release", "--bin", "forebay"]);
    process::run(&mut binary, interrupt)?;
    Ok(Vec::new())
}

/// Returns cargo, set to run the benchmark, whose further flags may follow.
fn cargo_bench(workspace: &Workspace, benchmark: &Benchmark, file: &Path) -> Result<Command> {
    // Figures of an earlier run must not pass for this one's.
    if file.exists() {
        fs::remove_file(file).context("remove the earlier report")?;
    }
    let mut cargo = workspace.cargo();
    cargo.args(["bench", "--locked", "--package", &benchmark.package]);
    cargo
        .args(["--bench", &benchmark.target, "--", "--report"])
        .arg(file);
    Ok(cargo)
}

fn read(file: &Path) -> Result<Report> {
    let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
}

/// Prints the report as a table, and returns how many targets it misses.
fn print(report: &Report) -> Result<usize> {
    let width = report.rows.iter().map(|row| row.what.chars().count()).max();
    let width = width.unwrap_or_default();
    for row in &report.rows {
        let Row {
            what, value, unit, ..
        } = row;
        let (target, verdict) = (row.target(), row.verdict());
        let line = format!("{what:width$}  {value:>12.3} {unit:8}  {target:20}  {verdict}");
        say(format_args!("{}", line.trim_end()))?;
    }
    Ok(report.rows.iter().filter(|row| !row.is_met()).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: &str) -> Row {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_target_is_met_up_to_its_limit() {
        let at = |value: &str| {
            row(&format!(
                r#"{{"what":"t","value":{value},"unit":"s","at_least":1,"at_most":2}}"#
            ))
        };
        assert!(at("1").is_met() && at("2").is_met());
        assert!(!at("0.99").is_met() && !at("2.01").is_met());
        assert_eq!((at("3").verdict(), at("1.5").verdict()), ("MISSED", "met"));
    }

    #[test]
    fn a_figure_that_is_not_a_number_misses_its_target() {
        let mut row = row(r#"{"what":"t","value":0,"unit":"s","at_most":2}"#);
        row.value = f64::NAN;
        assert_eq!(row.verdict(), "MISSED");
    }

    #[test]
    fn the_bench_targets_of_the_workspace_are_the_benchmarks() {
        let metadata: Metadata = serde_json::from_str(
            r#"{"target_directory": "/t", "packages": [{"name": "forebay-tests", "targets": [
                {"name": "suites", "kind": ["test"]}, {"name": "echo_io", "kind": ["bench"]}]}]}"#,
        )
        .unwrap();
        let names: Vec<_> = find(&metadata).iter().map(Benchmark::name).collect();
        assert_eq!(names, ["echo-io"]);
    }
}
