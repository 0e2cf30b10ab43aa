//! The section `[registry]` of the configuration.

use std::{ops::RangeInclusive, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::residency::Mode;

/// Which batch sizes a model is warmed up with, of those that its configuration does not ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarmupSizes {
    /// Every size on a device with memory of its own; on the host as many as cost little, and more
    /// only where the first pass of a size is seen to take longer than its rows call for.
    #[default]
    Auto,
    /// Every size.
    All,
}

/// How long a model may stay in memory where another waits.
const TURNS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

/// How models become ready.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What the warm-up of a model version may take for the batch sizes that its configuration does
    /// not ask for itself. Defaults to 3 s; 0 switches that part off.
    #[serde(with = "humantime_serde")]
    pub warmup_timeout: Duration,
    /// Which of those sizes are run. Defaults to `auto`.
    pub warmup_sizes: WarmupSizes,
    /// Whether weights may leave memory while no request uses them, where a model's configuration
    /// does not say. Defaults to `pinned`; models with sequences always are.
    pub model_residency: Mode,
    /// What the weights of all models may take in memory together. Defaults to 0: without a bound.
    pub weights_bytes: ByteSize,
    /// How long a model that always has requests stays in memory where another waits for room.
    /// Defaults to 1 s; at least 10 ms, in which a batch can run, and at most an hour.
    #[serde(with = "humantime_serde")]
    pub residency_turn: Duration,
}

impl Config {
    /// Returns the bound on weights, if there is one.
    pub fn weights_budget(&self) -> Option<u64> {
        Some(self.weights_bytes.as_u64()).filter(|bytes| *bytes > 0)
    }

    pub(crate) fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !TURNS.contains(&self.residency_turn) {
            let (least, most) = (TURNS.start(), TURNS.end());
            let turn = self.residency_turn;
            faults.push(format!(
                "registry.residency_turn is {turn:?}; give it {least:?} to {most:?}"
            ));
        }
        if self.model_residency == Mode::Lru && self.weights_budget().is_none() {
            faults.push(
                "registry.weights_bytes: missing, so with registry.model_residency = \"lru\" no weights would ever leave memory; set it"
                    .to_owned(),
            );
        }
        faults
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            warmup_timeout: Duration::from_secs(3),
            warmup_sizes: WarmupSizes::Auto,
            model_residency: Mode::Pinned,
            weights_bytes: ByteSize(0),
            residency_turn: Duration::from_secs(1),
        }
    }
}
