//! A server of a few lines over grpc.aio with one thread for the model: what one writes by hand.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::{
    Setup,
    contestant::Recipe,
    python_peer::{PythonPeers, sources},
    repository,
};
use crate::process::Interrupt;

/// tritonclient has the protocol's messages.
const PACKAGES: [&str; 3] = [
    "grpcio==1.85.1",
    "tritonclient[grpc]==2.73.0",
    "numpy==2.4.6",
];

/// Gets its packages, and returns what starts it.
pub(super) fn recipe(
    setup: &Setup<'_>,
    python: &PythonPeers,
    interrupt: &Interrupt,
) -> Result<Recipe> {
    let folder = setup.workspace.cache("peers/grpc-aio");
    let packages = python
        .python
        .packages_in(setup.workspace, &folder, &PACKAGES, interrupt)?;
    // It reads of each model what it tells its clients, as the others do.
    let (models, four) = repository::write(
        &setup.folder.join("grpc-aio"),
        &setup.fixtures,
        |model, _| vec![("signature.json", repository::signature(model))],
    )?;
    let (files, path) = (vec![packages.clone()], python.path(&packages));
    let program = sources().join("grpc_aio.py");
    let command = move |models: &Path, port: u16| {
        let mut command = Command::new("python3");
        command.arg(&program).arg(models).arg(port.to_string());
        command.env("PYTHONPATH", &path);
        command
    };
    Ok(Recipe {
        name: "grpc-aio",
        models,
        four,
        files,
        command: Box::new(command),
        shared_memory: None,
    })
}
