//! `make-models DIR [--only NAME ...]` writes the fixture models as a model repository.

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
}

fn main() -> Result<()> {
    let args = Args::parse();
    tch::set_num_threads(1);
    let mut out = io::stdout().lock();
    for fixture in args.only {
        let outcome = match models::write_one(&args.dir, fixture)? {
            Outcome::Written => "written",
            Outcome::Kept => "there already",
        };
        let path = args.dir.join(fixture.name());
        writeln!(out, "{}: {outcome}", path.display())?;
    }
    Ok(())
}
