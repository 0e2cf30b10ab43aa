//! Our own server, with its defaults but for one thread within an operation, as every peer has.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{Setup, contestant::Recipe, repository};

/// Returns what starts it.
pub(super) fn recipe(setup: &Setup<'_>) -> Result<Recipe> {
    let folder = setup.folder.join("forebay");
    let (models, four) = repository::write(&folder, &setup.fixtures, |model, batching| {
        let config = repository::pbtxt(model, batching, "platform: \"pytorch_libtorch\"");
        vec![("config.pbtxt", config)]
    })?;
    let config = folder.join("forebay.toml");
    std::fs::write(&config, "[scheduler]\nintra_op_threads = 1\n").context("write its settings")?;
    let (program, workspace) = (setup.programs.path("forebay"), setup.workspace.clone());
    let files = vec![program.clone()];
    let command = move |models: &Path, port: u16| {
        let mut command = Command::new(&program);
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        command.arg("--model-repository").arg(models);
        command.arg("--config").arg(&config);
        workspace.with_libtorch(&mut command);
        command
    };
    Ok(Recipe {
        name: "forebay",
        models,
        four,
        files,
        command: Box::new(command),
        shared_memory: None,
    })
}
