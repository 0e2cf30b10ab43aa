//! MLServer with a runtime of a few lines for TorchScript files.

use std::{path::Path, process::Command};

use anyhow::Result;
use serde_json::json;

use super::{
    Setup,
    cell::{Model, served},
    contestant::Recipe,
    python_peer::{PythonPeers, sources},
    repository,
};
use crate::process::Interrupt;

/// A later uvloop starts its workers again and again.
const PACKAGES: [&str; 3] = ["mlserver==1.7.1", "uvloop==0.21.0", "setuptools==81.0.0"];

/// Gets its packages, and returns what starts it.
pub(super) fn recipe(
    setup: &Setup<'_>,
    python: &PythonPeers,
    interrupt: &Interrupt,
) -> Result<Recipe> {
    let folder = setup.workspace.cache("peers/mlserver");
    let packages = python
        .python
        .packages_in(setup.workspace, &folder, &PACKAGES, interrupt)?;
    let (models, four) = repository::write(
        &setup.folder.join("mlserver"),
        &setup.fixtures,
        |model, batching| {
            let settings = settings(model, batching).to_string();
            vec![("model-settings.json", settings)]
        },
    )?;
    let (files, path) = (vec![packages.clone()], python.path(&packages));
    let runtime = sources();
    // It writes to the folder that it is started in.
    let scratch = setup.folder.join("mlserver");
    let command = move |models: &Path, port: u16| {
        let mut command = Command::new("python3");
        command
            .args(["-m", "mlserver.cli.main", "start"])
            .arg(models);
        let mut path = path.clone();
        path.push(":");
        path.push(&runtime);
        command.env("PYTHONPATH", path).current_dir(&scratch);
        let port = port.to_string();
        command.env("MLSERVER_HOST", "127.0.0.1");
        command.env("MLSERVER_GRPC_PORT", port);
        // It always serves HTTP and figures too: at ports that the system chooses.
        command.env("MLSERVER_HTTP_PORT", "0");
        command.env("MLSERVER_METRICS_ENDPOINT", "");
        command.env("MLSERVER_METRICS_PORT", "0");
        // A line of its log for each request is not what it is measured by.
        command.env("MLSERVER_DEBUG", "false");
        // Its fastest way: the model runs in the process that takes calls.
        command.env("MLSERVER_PARALLEL_WORKERS", "0");
        command
    };
    Ok(Recipe {
        name: "mlserver",
        models,
        four,
        files,
        command: Box::new(command),
        shared_memory: None,
    })
}

/// Returns the settings of a model. Without a size, requests are not joined.
fn settings(model: Model, batching: bool) -> serde_json::Value {
    let mut settings = json!({
        "name": served(model, batching),
        "implementation": "mlserver_runtime.TorchScript",
        "parameters": { "uri": "./1/model.pt" },
    });
    let signature = repository::tensors(model);
    for (key, value) in [("inputs", &signature.0), ("outputs", &signature.1)] {
        settings[key] = json!([value]);
    }
    if batching {
        settings["max_batch_size"] = json!(model.most_rows());
        settings["max_batch_time"] = json!(0.0005);
    }
    settings
}
