//! The `forebay` binary. Everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use forebay_server::cli::{Args, run, tell};

fn main() -> ExitCode {
    run(Args::parse()).unwrap_or_else(|error| {
        tell(&error);
        ExitCode::FAILURE
    })
}
