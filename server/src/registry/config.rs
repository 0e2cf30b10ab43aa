//! The section `[registry]` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How models become ready.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What the warm-up of a model version may take for the batch sizes that its configuration does
    /// not ask for itself. Defaults to 3 s; 0 switches that part off.
    #[serde(with = "humantime_serde")]
    pub warmup_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            warmup_timeout: Duration::from_secs(3),
        }
    }
}
