//! What runs a model, from `platform`, `backend` and `default_model_filename`, or from what files
//! there are.

use std::{fs, path::Path};

use forebay_proto::inference::ModelConfig;

use crate::{
    repository::{faults::Faults, versions::parse_number},
    signature::Signature,
};

/// Ways to run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A TorchScript file, run by libtorch.
    TorchScript,
    /// A package that AOTInductor compiled, run by libtorch.
    Aoti,
    /// Gives each output the input at the same position, unchanged. Needs no file, and measures
    /// the server alone.
    ///
    /// Inputs and outputs are equal in number, datatypes and dimensions, and none is optional.
    Identity,
}

impl Backend {
    /// Returns the `platform` that the protocol shows.
    pub fn platform(self) -> &'static str {
        match self {
            Self::TorchScript => "pytorch_libtorch",
            Self::Aoti => "torch_aoti",
            Self::Identity => "",
        }
    }

    /// Returns the `backend` that the protocol shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::TorchScript | Self::Aoti => "pytorch",
            Self::Identity => "identity",
        }
    }

    /// Returns the name of its models' files where a configuration gives none.
    fn default_filename(self) -> Option<&'static str> {
        match self {
            Self::TorchScript => Some("model.pt"),
            Self::Aoti => Some("model.pt2"),
            Self::Identity => None,
        }
    }
}

const SUPPORTED: &str = "use platform: \"pytorch_libtorch\" (or backend: \"pytorch\") for \
     TorchScript, platform: \"torch_aoti\" for a package of AOTInductor, or backend: \"identity\"";

/// Names the platform where neither it nor the backend is set: by the name of the model's file, or by
/// what there is in the folders of versions in `dir`, if that is of one kind. Triton looks at one of
/// them, which need not be the one that is served.
pub(in crate::repository) fn infer(config: &mut ModelConfig, dir: &Path) {
    if !config.platform.is_empty() || !config.backend.is_empty() {
        return;
    }
    let named = config.default_model_filename.as_str();
    let backends = [Backend::TorchScript, Backend::Aoti].into_iter();
    let mut found = backends.filter(|backend| match backend.default_filename() {
        Some(file) if named.is_empty() => has_version_with(dir, file),
        default => default == Some(named),
    });
    if let (Some(backend), None) = (found.next(), found.next()) {
        backend.platform().clone_into(&mut config.platform);
    }
}

fn has_version_with(dir: &Path, file: &str) -> bool {
    let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.any(|entry| {
        let name = entry.file_name();
        let is_version = name.to_str().and_then(parse_number).is_some();
        is_version && entry.path().join(file).is_file()
    })
}

pub(super) fn read(config: &ModelConfig, faults: &mut Faults) -> Option<Backend> {
    let (platform, backend) = (config.platform.as_str(), config.backend.as_str());
    match (platform, backend) {
        ("pytorch_libtorch", "" | "pytorch") | ("", "pytorch") => Some(Backend::TorchScript),
        ("torch_aoti", "" | "pytorch") => Some(Backend::Aoti),
        ("", "identity") => Some(Backend::Identity),
        ("", "") => {
            faults.wrong("platform", "neither platform nor backend is set", SUPPORTED);
            None
        }
        ("", backend) => {
            let problem = format!("'{backend}' is not supported");
            faults.wrong("backend", problem, SUPPORTED);
            None
        }
        ("pytorch_libtorch" | "torch_aoti", backend) => {
            let problem = format!("'{backend}' does not go with platform '{platform}'");
            faults.wrong("backend", problem, SUPPORTED);
            None
        }
        (platform, _) => {
            let problem = format!("'{platform}' is not supported");
            faults.wrong("platform", problem, SUPPORTED);
            None
        }
    }
}

pub(super) fn disables_optimized_execution(config: &ModelConfig, faults: &mut Faults) -> bool {
    truth(config, "DISABLE_OPTIMIZED_EXECUTION", faults).unwrap_or(false)
}

/// Reads a parameter that is set, in the spellings that Triton takes for a truth value.
pub(super) fn truth(config: &ModelConfig, name: &str, faults: &mut Faults) -> Option<bool> {
    let text = &config.parameters.get(name)?.string_value;
    match text.to_lowercase().as_str() {
        "true" | "on" | "1" => Some(true),
        "false" | "off" | "0" => Some(false),
        _ => {
            let problem = format!("'{text}' is no truth value");
            let field = format!("parameters.{name}");
            faults.wrong(field, problem, "write true or false");
            None
        }
    }
}

/// Returns the name of the model's file, or `None` where none is needed.
pub(super) fn filename(
    backend: Backend,
    config: &ModelConfig,
    faults: &mut Faults,
) -> Option<String> {
    const FIELD: &str = "default_model_filename";
    let name = config.default_model_filename.as_str();
    let Some(default) = backend.default_filename() else {
        faults.ignored(!name.is_empty(), FIELD);
        return None;
    };
    if name.is_empty() {
        return Some(default.to_owned());
    }
    if name.contains(['/', '\\', '\0']) || name == "." || name == ".." {
        let problem = format!("{name:?} is not the name of a file");
        faults.wrong(FIELD, problem, "name a file in the version's own folder");
    }
    Some(name.to_owned())
}

/// Holds the tensors of an identity model against what it can do.
pub(super) fn check_echo(signature: &Signature, faults: &mut Faults) {
    let (inputs, outputs) = (&signature.inputs, &signature.outputs);
    if inputs.len() != outputs.len() {
        faults.wrong(
            "output",
            format_args!("{} outputs for {} inputs", outputs.len(), inputs.len()),
            "an identity model gives each input back; list as many of both",
        );
    }
    for (index, (input, output)) in inputs.iter().zip(outputs).enumerate() {
        if (input.datatype, input.model_dims()) != (output.datatype, output.model_dims()) {
            faults.wrong(
                format_args!("output[{index}]"),
                format_args!("'{}' differs from input '{}'", output.name, input.name),
                "an identity model gives each input back; use the same data_type and the same dims, or reshape",
            );
        }
        if input.optional {
            faults.wrong(
                format_args!("input[{index}].optional"),
                "an identity model needs every input",
                "remove it",
            );
        }
    }
}
