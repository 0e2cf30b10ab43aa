//! What tests and the demo need that is not in the repository: models.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    fetch::{Fetcher, Wheel},
    libtorch,
    process::{self, Interrupt},
    say,
    workspace::Workspace,
};

/// Voice activity detection by Silero, MIT licensed: a real model that needs no Python to run.
const SILERO: Wheel = Wheel {
    package: "silero-vad",
    version: "6.2.0",
    file: "silero_vad-6.2.0-py3-none-any.whl",
    bytes: 6_118_499,
    sha256: "8a31f1e58e73cdc20820d842f757e678e0ae1b0ee1cb7b8aa50f20f8fd7f7638",
    platforms: &[],
};

/// Returns the folder with the fetched models: `silero_vad.jit`.
pub(crate) fn fetched(workspace: &Workspace, interrupt: &Interrupt) -> Result<PathBuf> {
    let folder = workspace.cache("models");
    if folder.join("silero_vad.jit").exists() {
        return Ok(folder);
    }
    let fetcher = Fetcher::new(workspace, interrupt)?;
    let wheel = fetcher.fetch(&SILERO)?;
    // Unpacked beside its place, so that an interruption leaves no half of it.
    let partial = workspace.cache("models.partial");
    fetcher.unpack(
        &wheel,
        &partial,
        &["silero_vad/data/silero_vad.jit=silero_vad.jit"],
    )?;
    fs::create_dir_all(&folder).context("make .cache/models")?;
    fs::rename(
        partial.join("silero_vad.jit"),
        folder.join("silero_vad.jit"),
    )
    .context("put silero_vad.jit into its place")?;
    fs::remove_dir(&partial).context("remove .cache/models.partial")?;
    fs::remove_file(&wheel).context("remove a wheel")?;
    Ok(folder)
}

/// Runs `cargo xtask models [--ladder] DIR`.
pub(crate) fn models(
    workspace: &Workspace,
    dir: &Path,
    ladder: bool,
    interrupt: &Interrupt,
) -> Result<()> {
    libtorch::ensure(workspace, interrupt)?;
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--quiet", "--locked", "--package", "forebay-tests"]);
    let dir = std::path::absolute(dir).with_context(|| format!("find {}", dir.display()))?;
    cargo.args(["--bin", "make-models", "--"]).arg(&dir);
    cargo.args(ladder.then_some("--ladder"));
    process::run(&mut cargo, interrupt)?;
    if !ladder {
        silero(workspace, &dir, interrupt)?;
    }
    say(format_args!("a model repository is at {}", dir.display()))
}

/// Writes the models `names` into the repository `dir` by a built `make-models`, which leaves those
/// that are there as they are.
pub(crate) fn made(
    workspace: &Workspace,
    program: &Path,
    dir: &Path,
    names: &[&str],
    interrupt: &Interrupt,
) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(dir).arg("--only").args(names);
    process::run(workspace.with_libtorch(&mut command), interrupt)
}

/// Writes the model `silero_vad` into the repository `dir`.
pub(crate) fn silero(workspace: &Workspace, dir: &Path, interrupt: &Interrupt) -> Result<()> {
    let model = fetched(workspace, interrupt)?.join("silero_vad.jit");
    let folder = dir.join("silero_vad");
    fs::create_dir_all(folder.join("1")).with_context(|| format!("make {}", folder.display()))?;
    fs::copy(model, folder.join("1/model.pt")).context("copy silero_vad.jit")?;
    fs::write(
        folder.join("config.pbtxt"),
        include_str!("silero_vad.pbtxt"),
    )
    .context("write the configuration of silero_vad")
}
