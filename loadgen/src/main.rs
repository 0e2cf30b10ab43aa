//! The `loadgen` command.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
#[cfg(target_os = "linux")]
use forebay_loadgen::spill;
use forebay_loadgen::{
    cli::{Cli, Command},
    host, ladder,
    output::ReportFile,
    parity, queued, run,
};

/// glibc's gives the memory of each large message back, to be mapped and faulted in for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(told) => {
            // Help, or what is wrong with the command line. With nobody to read it, the code still tells.
            let _ = told.print();
            // Not clap's 2, which means that a report is not to be believed.
            return Ok(code(!told.use_stderr()));
        }
    };
    // On one core a second thread takes no work off the first, and each hand-over costs a wake-up.
    let mut runtime = match host::cores() {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build().context("start the runtime")?;
    let out = &mut io::stdout().lock();
    match command {
        Command::Run(args) => {
            let files = run::Files::open(&args.output)?;
            let report = runtime.block_on(run::run(&args))?;
            run::write(&report, files, args.output.quiet, out)?;
            Ok(report.verdict.exit_code())
        }
        Command::Ladder(args) => {
            let json = ReportFile::open(args.json.as_deref())?;
            let report = runtime.block_on(ladder::run(&args))?;
            ladder::write(&report, json, args.quiet, out)?;
            Ok(code(!args.check || report.passes()))
        }
        Command::Queued(args) => {
            let json = ReportFile::open(args.json.as_deref())?;
            let report = runtime.block_on(queued::run(&args))?;
            queued::write(&report, json, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Parity(args) => {
            let json = ReportFile::open(args.json.as_deref())?;
            let report = runtime.block_on(parity::run(&args))?;
            parity::write(&report, json, out)?;
            Ok(code(report.passes()))
        }
        #[cfg(target_os = "linux")]
        Command::SpillBench(args) => {
            let json = ReportFile::open(args.json.as_deref())?;
            let report = runtime.block_on(spill::run(&args))?;
            spill::write(&report, json, out)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn code(passes: bool) -> ExitCode {
    if passes {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
