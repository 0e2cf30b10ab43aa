//! The `forebay` binary. Everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use forebay_server::cli::{Args, run, tell};

/// What one thread allocates another frees here, with each request. The system's allocator is slower at that,
/// and keeps more of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run(Args::parse()).unwrap_or_else(|error| {
        tell(&error);
        ExitCode::FAILURE
    })
}
