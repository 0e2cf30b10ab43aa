//! `make-models DIR [--only NAME ...]` writes the fixture models as a model repository;
//! `make-models DIR --ladder` those that `loadgen ladder` compares.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Result;
use clap::Parser;
use forebay_tests::models::{self, Fixture, Outcome};

/// Writes the fixture models as a model repository. Those that are there already stay.
#[derive(Debug, Parser)]
struct Args {
    /// The directory of the repository; made if need be.
    dir: PathBuf,
    /// The models to write; without it, all.
    #[arg(long, value_name = "NAME", num_args = 1.., default_values_t = Fixture::ALL)]
    only: Vec<Fixture>,
    /// Write the models of `loadgen ladder` instead.
    #[arg(long, conflicts_with = "only")]
    ladder: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    tch::set_num_threads(1);
    let mut out = io::stdout().lock();
    let mut tell = |name: &str, outcome: Outcome| {
        let outcome = match outcome {
            Outcome::Written => "written",
            Outcome::Kept => "there already",
        };
        writeln!(out, "{}: {outcome}", args.dir.join(name).display())
    };
    if args.ladder {
        for (name, outcome) in models::write_ladder(&args.dir)? {
            tell(name, outcome)?;
        }
        return Ok(());
    }
    for fixture in args.only {
        tell(fixture.name(), models::write_one(&args.dir, fixture)?)?;
    }
    Ok(())
}
