//! What Forebay does not serve: refused where it would change results or scheduling, noted where
//! it would not.

use forebay_proto::inference::ModelConfig;

use super::backend;
use crate::repository::faults::Faults;

/// Parameters of Triton's PyTorch backend that tune or fall away here, and change no result, save for
/// [`REFUSED_VALUES`].
const IGNORED_PARAMETERS: [&str; 12] = [
    "DISABLE_CUDNN",
    "ENABLE_CACHE_CLEANING",
    "ENABLE_JIT_EXECUTOR",
    "ENABLE_JIT_PROFILING",
    "ENABLE_TENSOR_FUSER",
    "ENABLE_WEIGHT_SHARING",
    "INFERENCE_MODE",
    "INTER_OP_THREAD_COUNT",
    "INTRA_OP_THREAD_COUNT",
    "NUM_INTEROP_THREADS",
    "NUM_THREADS",
    "TORCH_COMPILE_OPTIONAL_PARAMETERS",
];

/// Parameters with the one value that could change results, and the mend.
const REFUSED_VALUES: [(&str, bool, &str); 2] = [
    (
        "DISABLE_CUDNN",
        true,
        "remove it; cuDNN cannot be switched off for one model",
    ),
    (
        "INFERENCE_MODE",
        false,
        "remove it; Forebay always runs in inference mode",
    ),
];

/// Parameters that Forebay reads. A name like theirs that is none of them is a typing mistake.
const OWN_PARAMETERS: [&str; 3] = [
    "FOREBAY_EXECUTOR_MODE",
    "FOREBAY_MICRO_BATCHES",
    "FOREBAY_MODEL_RESIDENCY",
];

pub(super) fn check(config: &ModelConfig, faults: &mut Faults) {
    refuse(config, faults);
    refuse_values(config, faults);
    note(config, faults);
}

fn refuse(config: &ModelConfig, faults: &mut Faults) {
    let decoupled = config
        .model_transaction_policy
        .is_some_and(|policy| policy.decoupled);
    let caching = config.response_cache.is_some_and(|cache| cache.enable);
    for (set, field, mend) in [
        (
            !config.runtime.is_empty(),
            "runtime",
            "remove it; models run in the server's own process",
        ),
        (
            !config.batch_input.is_empty(),
            "batch_input",
            "remove it and let clients send that tensor",
        ),
        (
            !config.batch_output.is_empty(),
            "batch_output",
            "remove it; outputs are split along the batch dimension",
        ),
        (
            decoupled,
            "model_transaction_policy.decoupled",
            "remove it; a model gives one response to each request",
        ),
        (
            caching,
            "response_cache.enable",
            "remove it, or set it to false",
        ),
        (
            !config.cc_model_filenames.is_empty(),
            "cc_model_filenames",
            "remove it and name one file in default_model_filename",
        ),
        (
            config
                .model_operations
                .as_ref()
                .is_some_and(|operations| !operations.op_library_filename.is_empty()),
            "model_operations",
            "remove it; build the model without custom operators",
        ),
        (
            config
                .model_repository_agents
                .as_ref()
                .is_some_and(|agents| !agents.agents.is_empty()),
            "model_repository_agents",
            "remove it and store the files as they are to be loaded",
        ),
    ] {
        faults.unsupported(set, field, mend);
    }
}

fn refuse_values(config: &ModelConfig, faults: &mut Faults) {
    for (name, refused, mend) in REFUSED_VALUES {
        if backend::truth(config, name, faults) == Some(refused) {
            let problem = format!("{refused} is not supported");
            faults.wrong(format_args!("parameters.{name}"), problem, mend);
        }
    }
}

fn note(config: &ModelConfig, faults: &mut Faults) {
    faults.ignored(config.optimization.is_some(), "optimization");
    faults.ignored(!config.metric_tags.is_empty(), "metric_tags");
    faults.ignored(config.model_metrics.is_some(), "model_metrics");
    for name in IGNORED_PARAMETERS {
        let set = config.parameters.contains_key(name);
        faults.ignored(set, format_args!("parameters.{name}"));
    }
    let mut names: Vec<_> = config.parameters.keys().collect();
    names.sort_unstable();
    for name in names {
        let own = name.to_ascii_uppercase().starts_with("FOREBAY_");
        let unknown = own && !OWN_PARAMETERS.contains(&name.as_str());
        faults.ignored(unknown, format_args!("parameters.{name}"));
    }
}
