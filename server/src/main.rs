//! The `forebay` binary. Everything is in the library.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use forebay_server::cli::{Args, run};

fn main() -> ExitCode {
    run(Args::parse()).unwrap_or_else(|error| {
        // Nothing is left to be done where standard error is closed.
        let _closed = writeln!(io::stderr(), "forebay: {error:#}");
        ExitCode::FAILURE
    })
}
