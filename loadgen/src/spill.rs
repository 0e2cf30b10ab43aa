//! `loadgen spill-bench`: what a disk gives to the store of tensors.
//!
//! Sizes take turns within a round, so that a disk that changes its pace does so for all. The files
//! are written once before anything is timed, as they are in a server that has run for a while.

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{cli::SpillArgs, output::ReportFile};

mod pass;
mod report;
mod target;

pub use pass::{Load, Pass};
pub use report::{Report, Row};
pub use target::Target;

/// The schema's name and number.
pub const SCHEMA: &str = "forebay-spill-bench/1";

/// Which way tensors go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From memory to the disk.
    Write,
    /// Back.
    Read,
}

impl Way {
    /// Both, in the order in which tensors go them.
    pub const BOTH: [Self; 2] = [Self::Write, Self::Read];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// Measures a store in the folder of `args`.
///
/// # Errors
/// The folder cannot be used, or the disk fails.
pub async fn run(args: &SpillArgs) -> Result<Report> {
    let load = |bytes: &usize| Load::new(*bytes, args.total, args.depth);
    let loads: Vec<Load> = args.sizes.iter().map(load).collect();
    let target = Target::open(&args.dir, &loads, |config| {
        config.engine = args.engine;
        config.encrypt = args.encrypt;
    })?;
    let mut passes: Vec<[Vec<Pass>; 2]> = vec![Default::default(); loads.len()];
    for load in &loads {
        target
            .round_trip(load)
            .await
            .context("write the files once")?;
    }
    for _ in 0..args.rounds {
        for (load, [written, read]) in loads.iter().zip(&mut passes) {
            let [out, back] = target.round_trip(load).await?;
            written.push(out);
            read.push(back);
        }
    }
    let mut report = Report::new(args, &target);
    for (load, of_load) in loads.iter().zip(&passes) {
        for (way, passes) in Way::BOTH.into_iter().zip(of_load) {
            report.rows.push(Row::of(load, way, passes));
        }
    }
    Ok(report)
}

/// Writes the report to the file `json`, if there is one, and as a table to `terminal`.
///
/// # Errors
/// The file or the terminal cannot be written; the other is.
pub fn write(report: &Report, json: Option<ReportFile>, terminal: &mut impl Write) -> Result<()> {
    let printed = write!(terminal, "{report}").context("print the report");
    printed.and(ReportFile::write_json(json, report))
}
