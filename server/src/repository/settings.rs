//! A model's configuration, validated: the only form in which the rest of the server sees it.
//!
//! [`ModelSettings::new`] reads a whole `ModelConfig` and reports every fault at once. A field
//! that would change results or scheduling and is not served is a fault, never ignored in
//! silence; one that changes no result is accepted and noted.

pub(super) mod backend;
mod executor;
mod normalised;
mod residency;
mod unsupported;
pub(super) mod warmup;

use std::collections::BTreeMap;

use forebay_proto::inference::ModelConfig;

pub use self::{
    backend::Backend,
    executor::ExecutorSettings,
    warmup::{WarmupData, WarmupInput, WarmupSample},
};
use super::{
    faults::Faults,
    instances::{self, InstanceGroup},
    name,
    scheduling::{self, QueuePolicy, Scheduling},
    tensors,
    versions::VersionPolicy,
};
use crate::{residency::Mode, signature::Signature};

/// What a valid configuration says.
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// The model's name, which is its folder's.
    pub name: String,
    /// What runs the model.
    pub backend: Backend,
    /// Name of the model's file in a version's folder; `None` where the backend needs no file.
    pub filename: Option<String>,
    /// Most items in one execution; 0 means that tensors have no batch dimension.
    pub max_batch_size: usize,
    /// The tensors.
    pub signature: Signature,
    /// How requests become executions.
    pub scheduling: Scheduling,
    /// How long and how many requests may wait.
    pub queue: QueuePolicy,
    /// The copies of the model that run; at least one group.
    pub instances: Vec<InstanceGroup>,
    /// What is run before the model is ready.
    pub warmup: Vec<WarmupSample>,
    /// Which versions are served.
    pub version_policy: VersionPolicy,
    /// Whether a TorchScript model may run in another form than the saved one.
    pub may_freeze: bool,
    /// Named texts for the backend.
    pub parameters: BTreeMap<String, String>,
    /// How its batches run, where it says so itself.
    pub executor: ExecutorSettings,
    /// Whether its weights may leave memory, where it says so itself or keeps state.
    pub residency: Option<Mode>,
    /// The configuration as the protocol shows it, with defaults filled in.
    pub config: ModelConfig,
    /// What was accepted and has no effect, each "field: ignored", or is worth a look.
    pub notes: Vec<String>,
}

impl ModelSettings {
    /// Validates the configuration of the model in the folder named `folder`.
    ///
    /// # Errors
    /// Every fault, each as "field: problem; mend".
    pub fn new(folder: &str, config: ModelConfig) -> Result<Self, Vec<String>> {
        let mut faults = Faults::default();
        check_name(folder, &config.name, &mut faults);
        let backend = backend::read(&config, &mut faults);
        let filename = backend.and_then(|backend| backend::filename(backend, &config, &mut faults));
        let max_batch_size = usize::try_from(config.max_batch_size).unwrap_or_else(|_| {
            faults.wrong(
                "max_batch_size",
                format_args!("{} is negative", config.max_batch_size),
                "use 0 for tensors without a batch dimension, or the largest batch",
            );
            0
        });
        let signature = Signature {
            inputs: tensors::inputs(&config.input, &mut faults),
            outputs: tensors::outputs(&config.output, &mut faults),
            max_batch_size,
        };
        if backend == Some(Backend::Identity) {
            backend::check_echo(&signature, &mut faults);
        }
        let warmup = warmup::read(&config.model_warmup, &signature, &mut faults);
        let (scheduling, queue) = scheduling::read(&config, &mut faults);
        let instances = instances::read(&config.instance_group, &mut faults);
        let version_policy = VersionPolicy::read(config.version_policy.as_ref(), &mut faults);
        let executor = executor::read(&config, &mut faults);
        let residency = residency::read(&config, &scheduling, &mut faults);
        let may_freeze = !backend::disables_optimized_execution(&config, &mut faults);
        if backend == Some(Backend::Aoti) && matches!(scheduling, Scheduling::Sequence(_)) {
            let problem = "a package of AOTInductor cannot be told to forget a sequence's state";
            faults.wrong(
                "sequence_batching",
                problem,
                "remove it, or serve the model as TorchScript",
            );
        }
        unsupported::check(&config, &mut faults);
        let notes = faults.into_notes()?;
        let backend = backend.expect("a configuration without a known backend has a fault");
        Ok(Self {
            name: folder.to_owned(),
            backend,
            max_batch_size,
            signature,
            scheduling,
            queue,
            warmup,
            version_policy,
            executor,
            residency,
            may_freeze,
            parameters: config
                .parameters
                .iter()
                .map(|(name, value)| (name.clone(), value.string_value.clone()))
                .collect(),
            config: normalised::fill_in(config, folder, backend, filename.as_deref(), &instances),
            filename,
            instances,
            notes,
        })
    }
}

fn check_name(folder: &str, name: &str, faults: &mut Faults) {
    if let Err(fault) = name::check(folder) {
        faults.wrong("folder", fault, "rename the folder");
    }
    if !name.is_empty() && name != folder {
        faults.wrong(
            "name",
            format_args!("'{name}' is not the folder's name, '{folder}'"),
            format_args!("write name: \"{folder}\", or rename the folder"),
        );
    }
}

#[cfg(test)]
mod tests;
