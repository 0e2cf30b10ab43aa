//! The models as each server wants them: the same TorchScript files, beside the server's own
//! configuration.
//!
//! Invariant: a folder holds what this run asked for and nothing of an earlier one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use serde_json::{Value, json};

use super::cell::{Model, served};

/// A file beside a model's weights: where it lies in the model's folder, and its text.
pub(super) type Beside = (&'static str, String);

/// Writes the models for one server below `folder`, with weights from the repository `fixtures`;
/// `beside` tells what else a model needs. Returns the folder of all and that with each model once.
pub(super) fn write(
    folder: &Path,
    fixtures: &Path,
    beside: impl Fn(Model, bool) -> Vec<Beside>,
) -> Result<(PathBuf, PathBuf)> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    let (every, four) = (folder.join("every"), folder.join("four"));
    for (root, forms) in [(&every, &[false, true][..]), (&four, &[true])] {
        for model in Model::ALL {
            let weights = fixtures.join(model.fixture()).join("1/model.pt");
            for &batching in forms {
                let target = root.join(served(model, batching));
                one(&target, &weights, &beside(model, batching))
                    .with_context(|| format!("write {}", target.display()))?;
            }
        }
    }
    Ok((every, four))
}

fn one(target: &Path, weights: &Path, beside: &[Beside]) -> Result<()> {
    fs::create_dir_all(target.join("1"))?;
    let module = target.join("1/model.pt");
    // Weights are tens of MiB: linked where the file system can.
    if fs::hard_link(weights, &module).is_err() {
        fs::copy(weights, &module).context("copy the weights")?;
    }
    for (file, text) in beside {
        fs::write(target.join(file), text)?;
    }
    Ok(())
}

/// Returns the input and the output of a model as the protocol's metadata have them.
pub(super) fn tensors(model: Model) -> (Value, Value) {
    let datatype = if model.takes_tokens() {
        "INT64"
    } else {
        "FP32"
    };
    let shape = [&[-1], model.dims()].concat();
    let input = json!({ "name": "INPUT__0", "datatype": datatype, "shape": shape });
    let shape = [-1, model.outputs()];
    let output = json!({ "name": "OUTPUT__0", "datatype": "FP32", "shape": shape });
    (input, output)
}

/// Returns both, as the JSON of a file.
pub(super) fn signature(model: Model) -> String {
    let (input, output) = tensors(model);
    json!({ "inputs": [input], "outputs": [output] }).to_string()
}

/// Returns the `config.pbtxt` of a model for a server that reads Triton's; `runs` says what runs it.
pub(super) fn pbtxt(model: Model, batching: bool, runs: &str) -> String {
    let input = if model.takes_tokens() {
        "TYPE_INT64"
    } else {
        "TYPE_FP32"
    };
    let (name, rows) = (served(model, batching), model.most_rows());
    let (dims, outputs) = (model.dims(), model.outputs());
    let joins = if batching { "dynamic_batching { }" } else { "" };
    format!(
        "name: \"{name}\"\n{runs}\nmax_batch_size: {rows}\n{joins}\n\
         instance_group [ {{ count: 1 kind: KIND_CPU }} ]\n\
         input [ {{ name: \"INPUT__0\" data_type: {input} dims: {dims:?} }} ]\n\
         output [ {{ name: \"OUTPUT__0\" data_type: TYPE_FP32 dims: [ {outputs} ] }} ]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_runs_files_are_gone_and_every_model_has_its_weights() {
        let home = tempfile::tempdir().unwrap();
        let fixtures = home.path().join("fixtures");
        for model in Model::ALL {
            let folder = fixtures.join(model.fixture()).join("1");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("model.pt"), model.fixture()).unwrap();
        }
        let folder = home.path().join("served");
        fs::create_dir_all(folder.join("every/old")).unwrap();
        let (every, four) = write(&folder, &fixtures, |model, batching| {
            vec![("config.pbtxt", pbtxt(model, batching, "backend: \"x\""))]
        })
        .unwrap();
        assert!(!every.join("old").exists());
        assert_eq!(fs::read_dir(&every).unwrap().count(), 8);
        assert_eq!(fs::read_dir(&four).unwrap().count(), 4);
        let config = |name: &str| fs::read_to_string(every.join(name).join("config.pbtxt"));
        assert!(config("mlp_batched").unwrap().contains("dynamic_batching"));
        assert!(!config("mlp").unwrap().contains("dynamic_batching"));
        let weights = fs::read_to_string(every.join("mlp/1/model.pt")).unwrap();
        assert_eq!(weights, "mlp");
    }
}
