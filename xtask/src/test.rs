//! `cargo xtask test`: what the tests need, then all of them.

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

    let mut tests = workspace.cargo();
    tests.env("FOREBAY_FIXTURES", &fixtures);
    if has_nextest(workspace)? {
        tests.args(["nextest", "run", "--workspace", "--locked"]);
    } else {
        say(format_args!(
            "cargo-nextest is not installed: tests run by `cargo test`, without its limits on \
             time (`cargo install --locked cargo-nextest` gets it)"
        ))?;
        tests.args([
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--locked",
        ]);
    }
    process::run(&mut tests, interrupt)?;

    let mut examples = workspace.cargo();
    examples.env("FOREBAY_FIXTURES", &fixtures);
    examples.args(["test", "--workspace", "--doc", "--locked"]);
    process::run(&mut examples, interrupt)
}

fn has_nextest(workspace: &Workspace) -> Result<bool> {
    let output = process::capture(workspace.cargo().args(["nextest", "--version"]))?;
    Ok(output.status.success())
}
