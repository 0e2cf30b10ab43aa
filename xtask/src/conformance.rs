//! `cargo xtask conformance`: clients that nobody here wrote, against a running server.
//!
//! `tritonclient` by the scripts in `tests/conformance`, then `perf_analyzer`, then packages that
//! AOTInductor made. Every step says how it went; all are run, and one that failed fails the whole.

use std::{
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    conformance::perf_analyzer::PerfAnalyzer,
    fixtures, libtorch,
    process::{self, Interrupt},
    python::Python,
    say,
    server::{self, Build, Programs, Server},
    workspace::Workspace,
};

mod aoti;
mod perf_analyzer;
mod repository;

/// tritonclient is what Triton's users have; the versions are those that the contract was read in.
const PACKAGES: [&str; 3] = [
    "tritonclient[grpc]==2.73.0",
    "grpcio-reflection==1.81.1",
    "numpy",
];
/// The scripts in `tests/conformance`; each is one step.
const SCRIPTS: [&str; 5] = ["health", "infer", "datatypes", "stream", "errors"];
/// The models that the scripts and `perf_analyzer` ask for, beside the identity models.
const MODELS: [&str; 2] = ["simple", "mlp"];
/// A script that takes longer hangs.
const SCRIPT_LIMIT: Duration = Duration::from_secs(60);

/// Runs the clients and counts what failed.
#[derive(Debug)]
struct Run<'a> {
    workspace: &'a Workspace,
    interrupt: &'a Interrupt,
    logs: PathBuf,
    failed: usize,
}

/// Runs all of it.
pub(crate) fn command(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    libtorch::ensure(workspace, interrupt)?;
    let python = Python::find()?;
    let packages = python.packages(workspace, &PACKAGES, interrupt)?;
    let analyzer = PerfAnalyzer::prepare(workspace, interrupt)?;

    let what = Build {
        release: false,
        packages: &["forebay-server", "forebay-tests", "forebay-client"],
        bins: &["forebay", "make-models"],
        examples: &["quickstart"],
    };
    let programs = server::build(workspace, &what, interrupt)?;
    let models = workspace.cache("conformance/models");
    repository::write_identities(&models)?;
    fixtures::made(
        workspace,
        &programs.path("make-models"),
        &models,
        &MODELS,
        interrupt,
    )?;

    let mut run = Run {
        workspace,
        interrupt,
        logs: programs.reports("conformance")?,
        failed: 0,
    };
    let log = run.logs.join("server.log");
    let server = Server::start(
        workspace,
        &programs.path("forebay"),
        &models,
        &log,
        interrupt,
    )?;
    let address = server.address().to_string();
    for script in SCRIPTS {
        run.step(script, |run| {
            run.script(&python, packages.as_os_str(), script, &[address.as_ref()])
        })?;
    }
    run.step("the README's examples", |run| {
        run.readme(&programs, &python, &packages, &address)
    })?;
    for load in perf_analyzer::LOADS {
        run.step(&load.to_string(), |run| {
            run.analyze(&analyzer, load, &address)
        })?;
    }
    run.step("server ends by SIGTERM with status 0", |_| {
        let status = server.stop()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(String::new())
    })?;
    aoti::steps(&mut run, &programs, &python, &packages)?;
    ensure!(
        run.failed == 0,
        "{} steps failed; what they wrote is in {}",
        run.failed,
        workspace.shown(&run.logs)
    );
    Ok(())
}

impl Run<'_> {
    /// Does one step and says how it went; only people's wish to stop ends the run.
    fn step(&mut self, name: &str, work: impl FnOnce(&Self) -> Result<String>) -> Result<()> {
        let started = Instant::now();
        let done = work(self);
        self.interrupt.check()?;
        let seconds = started.elapsed().as_secs_f64();
        match done {
            Ok(detail) => {
                let line = format!("ok      {name}  ({seconds:.1} s)  {detail}");
                say(format_args!("{}", line.trim_end()))
            }
            Err(error) => {
                self.failed += 1;
                say(format_args!("FAILED  {name}  ({seconds:.1} s)\n{error:#}"))
            }
        }
    }

    /// Runs the tests of a script in `tests/conformance`.
    fn script(
        &self,
        python: &Python,
        packages: &OsStr,
        name: &str,
        arguments: &[&OsStr],
    ) -> Result<String> {
        let mut command = self.python(python, packages, name);
        self.tests(command.args(arguments), name, SCRIPT_LIMIT)
    }

    /// Returns python3, set to run the script `name` with `packages`.
    fn python(&self, python: &Python, packages: &OsStr, name: &str) -> Command {
        let mut command = python.command(self.workspace);
        command.arg(format!("tests/conformance/{name}.py"));
        self.workspace.with_libtorch(&mut command);
        command.env("PYTHONPATH", packages);
        command
    }

    /// Runs `command`, which is the script `name`, and says how many tests it ran.
    fn tests(&self, command: &mut Command, name: &str, limit: Duration) -> Result<String> {
        let log = self.logs.join(format!("{name}.log"));
        let (status, text) = process::record(command, &log, limit, self.interrupt)?;
        ensure!(status.success(), "{text}");
        ran(&text).with_context(|| format!("no test ran:\n{text}"))
    }

    /// Runs the two examples of the README as they stand there.
    fn readme(
        &self,
        programs: &Programs,
        python: &Python,
        packages: &Path,
        address: &str,
    ) -> Result<String> {
        let mut rust = Command::new(programs.path("examples/quickstart"));
        rust.arg(format!("http://{address}"));
        let mut with_triton = python.command(self.workspace);
        with_triton
            .args(["tests/conformance/quickstart.py", address])
            .env("PYTHONPATH", packages);
        for (name, mut command) in [("rust", rust), ("python", with_triton)] {
            let log = self.logs.join(format!("quickstart-{name}.log"));
            let (status, text) = process::record(&mut command, &log, SCRIPT_LIMIT, self.interrupt)?;
            ensure!(
                status.success(),
                "the {name} example ended with {status}:\n{text}"
            );
        }
        Ok("Rust and Python".to_owned())
    }

    fn analyze(
        &self,
        analyzer: &PerfAnalyzer,
        load: perf_analyzer::Load,
        address: &str,
    ) -> Result<String> {
        let log = self.logs.join(format!("{}.log", load.file_name()));
        let mut command = analyzer.command(load, address);
        let limit = perf_analyzer::LIMIT;
        let (status, text) = process::record(&mut command, &log, limit, self.interrupt)?;
        ensure!(status.success(), "it ended with {status}:\n{text}");
        match perf_analyzer::table(&text) {
            Some(table) => Ok(format!("\n{table}\n")),
            None => bail!("it printed no breakdown of the server's time:\n{text}"),
        }
    }
}

/// Returns how many tests ran by what unittest wrote, as in `Ran 12 tests`; `None` for none at all.
fn ran(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| line.starts_with("Ran "))?;
    let count: u32 = line.split(' ').nth(1)?.parse().ok()?;
    // Less its time: what takes that is the interpreter, and we say it.
    let told = line.split(" in ").next()?;
    (count > 0).then(|| told.to_owned())
}

impl fmt::Display for perf_analyzer::Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            model,
            mode,
            concurrency,
        } = self;
        write!(
            f,
            "perf_analyzer {model}, {mode}, concurrency {concurrency}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_ran_no_test_has_no_count() {
        let ends = |line: &str| format!("Ran out of words\n----\n{line}\n\nOK\n");
        let told = ran(&ends("Ran 12 tests in 0.3s"));
        assert_eq!(told.as_deref(), Some("Ran 12 tests"));
        assert_eq!(
            ran(&ends("Ran 1 test in 0.3s")).as_deref(),
            Some("Ran 1 test")
        );
        assert_eq!(ran(&ends("Ran 0 tests in 0.0s")), None);
        assert_eq!(ran("OK"), None);
    }
}
