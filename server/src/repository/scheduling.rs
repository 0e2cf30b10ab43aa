//! How requests become executions: `dynamic_batching`, `sequence_batching` and the queue's policy.

use std::time::Duration;

use forebay_proto::inference::{
    ModelConfig, ModelDynamicBatching, ModelQueuePolicy, ModelSequenceBatching,
    model_config::SchedulingChoice, model_queue_policy::TimeoutAction,
    model_sequence_batching::StrategyChoice,
};

use super::faults::Faults;

/// How long a sequence may be idle where the configuration does not say.
pub(super) const DEFAULT_MAX_IDLE_US: u64 = 1_000_000;

/// How requests become executions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheduling {
    /// Each request is executed alone.
    Each,
    /// Requests are joined to batches.
    Dynamic(DynamicBatching),
    /// Requests of one sequence go to one instance.
    Sequence(SequenceBatching),
}

/// When a batch is formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicBatching {
    /// Sizes to form where possible, ascending and distinct, each from 1 to the model's maximum;
    /// empty means any size.
    pub preferred_batch_sizes: Vec<usize>,
    /// How long the oldest request may wait for company.
    pub max_queue_delay: Duration,
}

/// How long a sequence lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceBatching {
    /// After this long without a request the sequence is over. More than zero.
    pub max_idle: Duration,
}

/// How long and how many requests may wait. The default is Triton's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueuePolicy {
    /// How long a request may wait; `None` means as long as it takes.
    pub default_timeout: Option<Duration>,
    /// Whether a request's own `timeout` is heard, where it is shorter.
    pub allow_timeout_override: bool,
    /// How many requests may wait; `None` leaves it to the server's own bound.
    pub max_queue_size: Option<usize>,
}

/// Reads the scheduling block of `config`.
pub(super) fn read(config: &ModelConfig, faults: &mut Faults) -> (Scheduling, QueuePolicy) {
    match &config.scheduling_choice {
        None => (Scheduling::Each, QueuePolicy::default()),
        Some(SchedulingChoice::DynamicBatching(dynamic)) => {
            refuse_in_dynamic(dynamic, faults);
            let queue = dynamic
                .default_queue_policy
                .as_ref()
                .map_or_else(QueuePolicy::default, read_queue);
            let scheduling = read_dynamic(dynamic, config.max_batch_size, faults);
            (scheduling, queue)
        }
        Some(SchedulingChoice::SequenceBatching(sequence)) => {
            let sequence = read_sequence(sequence, config.max_batch_size, faults);
            (Scheduling::Sequence(sequence), QueuePolicy::default())
        }
        Some(SchedulingChoice::EnsembleScheduling(_)) => {
            faults.unsupported(
                true,
                "ensemble_scheduling",
                "serve the steps as models of their own and chain them in the client",
            );
            (Scheduling::Each, QueuePolicy::default())
        }
    }
}

fn read_dynamic(
    dynamic: &ModelDynamicBatching,
    max_batch_size: i32,
    faults: &mut Faults,
) -> Scheduling {
    const FIELD: &str = "dynamic_batching.preferred_batch_size";
    let mut sizes = Vec::with_capacity(dynamic.preferred_batch_size.len());
    for (index, &size) in dynamic.preferred_batch_size.iter().enumerate() {
        match usize::try_from(size) {
            // A maximum below 0 is a fault of its own.
            Ok(known) if known > 0 && (size <= max_batch_size || max_batch_size < 0) => {
                sizes.push(known);
            }
            Ok(known) if known > 0 => faults.wrong(
                format_args!("{FIELD}[{index}]"),
                format_args!("{size} is more than max_batch_size, which is {max_batch_size}"),
                "lower or remove it, or raise max_batch_size",
            ),
            _ => faults.wrong(
                format_args!("{FIELD}[{index}]"),
                format_args!("{size} is no batch size"),
                "use 1 or more",
            ),
        }
    }
    sizes.sort_unstable();
    sizes.dedup();
    if max_batch_size == 0 {
        // As in Triton, where only this gives the queue of such a model a policy.
        let text = "each request runs alone, since max_batch_size is 0";
        faults.note("dynamic_batching", text);
        return Scheduling::Each;
    }
    Scheduling::Dynamic(DynamicBatching {
        preferred_batch_sizes: sizes,
        max_queue_delay: Duration::from_micros(dynamic.max_queue_delay_microseconds),
    })
}

fn refuse_in_dynamic(dynamic: &ModelDynamicBatching, faults: &mut Faults) {
    let delayed = dynamic
        .default_queue_policy
        .is_some_and(|policy| policy.timeout_action() == TimeoutAction::Delay);
    let priorities = "remove it; requests are served in the order they came";
    for (set, field, mend) in [
        (
            dynamic.preserve_ordering,
            "preserve_ordering",
            "remove it; a stream's responses come in the order of its requests anyway",
        ),
        (dynamic.priority_levels > 0, "priority_levels", priorities),
        (
            dynamic.default_priority_level > 0,
            "default_priority_level",
            priorities,
        ),
        (
            !dynamic.priority_queue_policy.is_empty(),
            "priority_queue_policy",
            "remove it and use default_queue_policy",
        ),
        (
            delayed,
            "default_queue_policy.timeout_action",
            "use REJECT; a request that waited too long is refused",
        ),
    ] {
        faults.unsupported(set, format_args!("dynamic_batching.{field}"), mend);
    }
}

fn read_queue(policy: &ModelQueuePolicy) -> QueuePolicy {
    let timeout = policy.default_timeout_microseconds;
    let size = usize::try_from(policy.max_queue_size).unwrap_or(usize::MAX);
    QueuePolicy {
        default_timeout: (timeout > 0).then(|| Duration::from_micros(timeout)),
        allow_timeout_override: policy.allow_timeout_override,
        max_queue_size: (size > 0).then_some(size),
    }
}

fn read_sequence(
    sequence: &ModelSequenceBatching,
    max_batch_size: i32,
    faults: &mut Faults,
) -> SequenceBatching {
    let oldest = matches!(sequence.strategy_choice, Some(StrategyChoice::Oldest(_)));
    for (set, field, mend) in [
        (oldest, "oldest", "use direct { }"),
        (
            !sequence.control_input.is_empty(),
            "control_input",
            "remove it; the model sees a sequence's requests in order, without control tensors",
        ),
        (
            !sequence.state.is_empty(),
            "state",
            "remove it and keep the state in the model",
        ),
        (
            sequence.iterative_sequence,
            "iterative_sequence",
            "remove it and send a request for each step",
        ),
    ] {
        faults.unsupported(set, format_args!("sequence_batching.{field}"), mend);
    }
    if let Some(StrategyChoice::Direct(direct)) = &sequence.strategy_choice {
        let field = "sequence_batching.direct";
        let delayed = direct.max_queue_delay_microseconds > 0;
        faults.ignored(
            delayed,
            format_args!("{field}.max_queue_delay_microseconds"),
        );
        let filled = direct.minimum_slot_utilization != 0.0;
        faults.ignored(filled, format_args!("{field}.minimum_slot_utilization"));
    }
    if max_batch_size > 1 {
        faults.note(
            "sequence_batching",
            "max_batch_size joins no sequences; each instance has one at a time, so raise count in \
             instance_group for more",
        );
    }
    let idle = match sequence.max_sequence_idle_microseconds {
        0 => DEFAULT_MAX_IDLE_US,
        idle => idle,
    };
    SequenceBatching {
        max_idle: Duration::from_micros(idle),
    }
}
