//! `cargo xtask test`: what the tests need, then all of them.

use std::path::Path;

use anyhow::Result;

use crate::{
    fixtures, libtorch,
    process::{self, Interrupt},
    say,
    workspace::Workspace,
};

/// Runs all tests of the workspace.
pub(crate) fn command(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    libtorch::ensure(workspace, interrupt)?;
    let fixtures = fixtures::fetched(workspace, interrupt)?;

    if !has_nextest(workspace)? {
        say(format_args!(
            "cargo-nextest is not installed: tests run by `cargo test`, without its limits on \
             time (`cargo install --locked cargo-nextest` gets it)"
        ))?;
        return cargo(workspace, &["test", "--workspace"], &fixtures, interrupt);
    }
    cargo(
        workspace,
        &["nextest", "run", "--workspace"],
        &fixtures,
        interrupt,
    )?;
    // nextest does not run the examples in documentation.
    cargo(
        workspace,
        &["test", "--workspace", "--doc"],
        &fixtures,
        interrupt,
    )
}

fn cargo(
    workspace: &Workspace,
    arguments: &[&str],
    fixtures: &Path,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo
        .args(arguments)
        .arg("--locked")
        .env("FOREBAY_FIXTURES", fixtures);
    process::run(&mut cargo, interrupt)
}

fn has_nextest(workspace: &Workspace) -> Result<bool> {
    let output = process::capture(workspace.cargo().args(["nextest", "--version"]))?;
    Ok(output.status.success())
}
