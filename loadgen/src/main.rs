//! The `loadgen` command.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use forebay_loadgen::{
    cli::{Cli, Command},
    run,
};

fn main() -> ExitCode {
    match command() {
        Ok(code) => code,
        Err(error) => {
            // With stderr gone, the code still tells.
            writeln!(io::stderr(), "error: {error:#}").unwrap_or(());
            ExitCode::FAILURE
        }
    }
}

fn command() -> anyhow::Result<ExitCode> {
    let Command::Run(args) = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let report = runtime.block_on(run::run(&args))?;
    run::write(&report, &args.output, &mut io::stdout().lock())?;
    Ok(report.verdict.exit_code())
}
