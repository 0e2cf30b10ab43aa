//! Fills a configuration in, for clients that read it back.

use forebay_proto::inference::{
    ModelConfig, ModelInstanceGroup, ModelVersionPolicy,
    model_config::SchedulingChoice,
    model_version_policy::{Latest, PolicyChoice},
};

use super::Backend;
use crate::repository::{instances::InstanceGroup, scheduling::DEFAULT_MAX_IDLE_US};

/// Writes the defaults into `config` that Triton writes, as far as they mean something here.
pub(super) fn fill_in(
    mut config: ModelConfig,
    name: &str,
    backend: Backend,
    filename: Option<&str>,
    instances: &[InstanceGroup],
) -> ModelConfig {
    name.clone_into(&mut config.name);
    backend.platform().clone_into(&mut config.platform);
    backend.name().clone_into(&mut config.backend);
    filename
        .unwrap_or_default()
        .clone_into(&mut config.default_model_filename);
    let policy = config
        .version_policy
        .get_or_insert_with(ModelVersionPolicy::default);
    let choice = policy
        .policy_choice
        .get_or_insert(PolicyChoice::Latest(Latest { num_versions: 0 }));
    if let PolicyChoice::Latest(latest) = choice {
        latest.num_versions = latest.num_versions.max(1);
    }
    if let Some(SchedulingChoice::SequenceBatching(sequence)) = &mut config.scheduling_choice
        && sequence.max_sequence_idle_microseconds == 0
    {
        sequence.max_sequence_idle_microseconds = DEFAULT_MAX_IDLE_US;
    }
    if config.instance_group.is_empty() {
        config.instance_group.push(ModelInstanceGroup::default());
    }
    for (index, (group, settings)) in config.instance_group.iter_mut().zip(instances).enumerate() {
        if group.name.is_empty() {
            group.name = format!("{name}_{index}");
        }
        group.count = i32::try_from(settings.count).unwrap_or(i32::MAX);
    }
    config
}
