//! `cargo xtask`: the one entry for people.

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::{CommandFactory, Parser, Subcommand};

use crate::{process::Interrupt, workspace::Workspace};

mod bench;
mod conformance;
mod debian;
mod demo;
mod fetch;
mod fio;
mod fixtures;
mod gpu;
mod libtorch;
mod peers;
mod process;
mod python;
mod server;
mod test;
mod torch_python;
mod workspace;

/// Set-up, demo, tests, conformance and benchmarks of Forebay.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Task>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Get the libtorch to build with, unless LIBTORCH names one.
    Libtorch,
    /// Write the models that tests and the demo use into DIR, a model repository.
    Models {
        /// The folder to write to; it is made where it is missing.
        dir: PathBuf,
        /// Write the models that `loadgen ladder` compares instead.
        #[arg(long)]
        ladder: bool,
    },
    /// Build in release, serve two models, stream speech through one, load the other.
    Demo,
    /// Get all that the tests need, then run all tests.
    Test,
    /// Run tritonclient and perf_analyzer against a server; export models with AOTInductor, serve them.
    Conformance,
    /// Pack what measures Forebay on a machine that has a GPU and PyTorch only.
    Gpu,
    /// Run the benchmark NAME: prints a table, writes JSON; without NAME, list them.
    Bench {
        /// The benchmark.
        name: Option<String>,
        /// Fail where it misses a target.
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        peers: peers::Options,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Some(task) => run(task),
        None => Arguments::command()
            .print_help()
            .context("list the commands"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nothing left to do where even this cannot be written.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::find();
    let interrupt = Interrupt::install()?;
    match task {
        Task::Libtorch => libtorch::command(&workspace, &interrupt),
        Task::Models { dir, ladder } => fixtures::models(&workspace, &dir, ladder, &interrupt),
        Task::Demo => demo::command(&workspace, &interrupt),
        Task::Gpu => gpu::command(&workspace, &interrupt),
        Task::Bench { name, check, peers } => match name.as_deref() {
            Some("peers") => peers::command(&workspace, &peers, check, &interrupt),
            name => {
                ensure!(
                    !peers.are_given(),
                    "these options are of `bench peers` only"
                );
                bench::command(&workspace, name, check, &interrupt)
            }
        },
        Task::Conformance => conformance::command(&workspace, &interrupt),
        Task::Test => test::command(&workspace, &interrupt),
    }
}

/// Writes a line for people.
fn say(line: fmt::Arguments<'_>) -> Result<()> {
    writeln!(io::stdout(), "{line}").context("write to standard output")
}
