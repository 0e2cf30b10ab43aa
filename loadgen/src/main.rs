//! The `loadgen` command.

use std::{io, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use forebay_loadgen::{
    cli::{Cli, Command},
    run,
};

fn main() -> anyhow::Result<ExitCode> {
    let Command::Run(args) = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let report = runtime.block_on(run::run(&args))?;
    run::write(&report, &args.output, &mut io::stdout().lock())?;
    Ok(report.verdict.exit_code())
}
