//! What runs a model, from `platform`, `backend` and `default_model_filename`.

use forebay_proto::inference::ModelConfig;

use crate::repository::faults::Faults;
use crate::signature::Signature;

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
}

const SUPPORTED: &str = "use platform: \"pytorch_libtorch\" (or backend: \"pytorch\") for \
     TorchScript, platform: \"torch_aoti\" for a package of AOTInductor, or backend: \"identity\"";

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

/// Reads `DISABLE_OPTIMIZED_EXECUTION`, in the spellings that Triton takes for a truth value.
pub(super) fn disables_optimized_execution(config: &ModelConfig, faults: &mut Faults) -> bool {
    const NAME: &str = "DISABLE_OPTIMIZED_EXECUTION";
    let Some(parameter) = config.parameters.get(NAME) else {
        return false;
    };
    let text = &parameter.string_value;
    match text.to_lowercase().as_str() {
        "true" | "on" | "1" => true,
        "false" | "off" | "0" => false,
        _ => {
            let problem = format!("'{text}' is no truth value");
            faults.wrong(
                format_args!("parameters.{NAME}"),
                problem,
                "write true or false",
            );
            false
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
    match backend {
        Backend::Identity => {
            faults.ignored(!name.is_empty(), FIELD);
            None
        }
        Backend::TorchScript if name.is_empty() => Some("model.pt".to_owned()),
        Backend::Aoti if name.is_empty() => Some("model.pt2".to_owned()),
        Backend::TorchScript | Backend::Aoti => {
            if name.contains(['/', '\\', '\0']) || name == "." || name == ".." {
                let problem = format!("{name:?} is not the name of a file");
                faults.wrong(FIELD, problem, "name a file in the version's own folder");
            }
            Some(name.to_owned())
        }
    }
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
        if (input.datatype, &input.dims) != (output.datatype, &output.dims) {
            faults.wrong(
                format_args!("output[{index}]"),
                format_args!("'{}' differs from input '{}'", output.name, input.name),
                "an identity model gives each input back; use the same data_type and dims",
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
