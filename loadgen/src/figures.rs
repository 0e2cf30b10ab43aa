//! What the benchmarks of the workspace share: the figures that `cargo xtask bench` prints and checks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Parser;
use serde::Serialize;

/// The figures of one benchmark.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    rows: Vec<Row>,
}

/// One figure, and its target where it has one.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// How much of it.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
    /// The target is missed above this.
    pub at_most: Option<f64>,
    /// The target is missed below this.
    pub at_least: Option<f64>,
}

/// The flags that every benchmark takes.
#[derive(Debug, Parser)]
pub struct Flags {
    /// Where to write the figures.
    #[arg(long, value_name = "FILE")]
    pub report: PathBuf,
    /// Added by cargo.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Report {
    /// Adds a figure without a target.
    pub fn figure(&mut self, what: impl Into<String>, value: f64, unit: &'static str) -> &mut Row {
        self.rows.push(Row {
            what: what.into(),
            value,
            unit,
            at_most: None,
            at_least: None,
        });
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    /// Writes the figures to the file that the flag `--report` names.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> anyhow::Result<()> {
        self.write_to(&Flags::parse().report)
    }

    /// Writes the figures to `file`, for a benchmark with flags of its own.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_to(&self, file: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(self).context("write the report as JSON")?;
        fs::write(file, json).with_context(|| format!("write {}", file.display()))
    }
}
