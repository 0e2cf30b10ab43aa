//! `cargo xtask test`: what the tests need, then all of them.

use std::path::Path;

use anyhow::Result;

use crate::{
    fixtures, libtorch,
    process::{self, Interrupt},
    say,
    workspace::Workspace,
};

/// What cargo is asked instead of nextest. Tests that assert times run by themselves, as nextest's
/// configuration has it.
const WITHOUT_NEXTEST: [&[&str]; 2] = [
    &[
        "test",
        "--workspace",
        "--locked",
        "--",
        "--skip",
        "timing::",
    ],
    &[
        "test",
        "--workspace",
        "--locked",
        "--tests",
        "timing::",
        "--",
        "--test-threads=1",
    ],
];

/// Runs all tests of the workspace.
pub(crate) fn command(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    libtorch::ensure(workspace, interrupt)?;
    let fixtures = fixtures::fetched(workspace, interrupt)?;

    if !has_nextest(workspace)? {
        say(format_args!(
            "cargo-nextest is not installed: tests run by `cargo test`, without its limits on \
             time (`cargo install --locked cargo-nextest` gets it)"
        ))?;
        for arguments in WITHOUT_NEXTEST {
            cargo(workspace, arguments, &fixtures, interrupt)?;
        }
        return Ok(());
    }
    cargo(
        workspace,
        &["nextest", "run", "--workspace", "--locked"],
        &fixtures,
        interrupt,
    )?;
    // nextest does not run the examples in documentation.
    cargo(
        workspace,
        &["test", "--workspace", "--locked", "--doc"],
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
    cargo.args(arguments).env("FOREBAY_FIXTURES", fixtures);
    process::run(&mut cargo, interrupt)
}

fn has_nextest(workspace: &Workspace) -> Result<bool> {
    let output = process::capture(workspace.cargo().args(["nextest", "--version"]))?;
    Ok(output.status.success())
}
