//! `cargo xtask test`: what the tests need, then all of them.
//!
//! Owns `.cache/nextest`. By nextest alone, because several tests need a process of their own.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{
    fixtures, libtorch,
    process::{self, Interrupt},
    say,
    workspace::Workspace,
};

/// The cargo-nextest to get where there is none.
const NEXTEST: &str = "0.9.143";
/// What would let cargo build it for another machine, or in another way.
const SETTINGS: [&str; 4] = [
    "CARGO_BUILD_TARGET",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
];

/// Runs all tests of the workspace.
pub(crate) fn command(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    libtorch::ensure(workspace, interrupt)?;
    let fixtures = fixtures::fetched(workspace, interrupt)?;
    let nextest = nextest(workspace, interrupt)?;
    // nextest does not run the examples in documentation.
    let examples = workspace.cargo();
    for (mut command, arguments) in [
        (nextest, &["nextest", "run"][..]),
        (examples, &["test", "--doc"][..]),
    ] {
        command.args(arguments).args(["--workspace", "--locked"]);
        command.env("FOREBAY_FIXTURES", &fixtures);
        process::run(&mut command, interrupt)?;
    }
    Ok(())
}

/// Returns what runs nextest: cargo where it is installed, or else our own, which is got first.
fn nextest(workspace: &Workspace, interrupt: &Interrupt) -> Result<Command> {
    let asked = process::capture(workspace.cargo().args(["nextest", "--version"]))?;
    if asked.status.success() {
        return Ok(workspace.cargo());
    }
    let program = home(workspace).join("bin/cargo-nextest");
    if !program.exists() {
        install(workspace, interrupt).context("get cargo-nextest")?;
    }
    Ok(workspace.cargo_by(&program))
}

/// Returns a folder of this version alone, so that another one is got when it changes.
fn home(workspace: &Workspace) -> PathBuf {
    workspace.cache("nextest").join(NEXTEST)
}

/// Builds cargo-nextest. cargo puts it into its place when it is whole.
fn install(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    say(format_args!(
        "cargo-nextest is not installed; {NEXTEST} is built into {}, once, which takes some minutes",
        workspace.shown(&home(workspace))
    ))?;
    let target = workspace.cache("nextest").join("target");
    let mut cargo = workspace.cargo();
    cargo.args(["install", "--locked", "--version", NEXTEST, "--root"]);
    cargo.arg(home(workspace)).arg("--target-dir").arg(&target);
    cargo.arg("cargo-nextest");
    for setting in SETTINGS {
        cargo.env_remove(setting);
    }
    process::run(&mut cargo, interrupt)?;
    // Gigabytes that nothing needs any more.
    libtorch::remove(&target)
}
