//! The `[admission]` section.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// How much may come in, and how long a message may stand still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Host memory that requests and replies hold together. Defaults to 4 GiB.
    pub host_bytes: ByteSize,
    /// Longest gRPC message that is let in. Defaults to 64 MiB.
    pub max_message_bytes: ByteSize,
    /// The time within which a 32nd of a message, or 16 KiB if that is more, or its rest, is to come, and
    /// in which a unary call is to end behind its message. Defaults to 30 s.
    #[serde(with = "humantime_serde")]
    pub progress_timeout: Duration,
    /// How long a unary call may wait for memory, where requests go to disk to make room. Defaults to
    /// 1 s.
    #[serde(with = "humantime_serde")]
    pub unary_wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host_bytes: ByteSize::gib(4),
            max_message_bytes: ByteSize::mib(64),
            progress_timeout: Duration::from_secs(30),
            unary_wait: Duration::from_secs(1),
        }
    }
}

impl Config {
    /// Returns every fault, each naming its key; none if the section is usable.
    pub fn validate(&self) -> Vec<String> {
        let Self {
            host_bytes,
            max_message_bytes,
            progress_timeout,
            // None is as good as any.
            unary_wait: _,
        } = self;
        let mut faults = Vec::new();
        if max_message_bytes.as_u64() == 0 || max_message_bytes.as_u64() > u64::from(u32::MAX) {
            faults.push(format!(
                "admission.max_message_bytes is {max_message_bytes}; \
                 a gRPC message holds between 1 byte and {} bytes",
                u32::MAX
            ));
        }
        if host_bytes < max_message_bytes {
            faults.push(format!(
                "admission.host_bytes is {host_bytes}, less than one message of \
                 admission.max_message_bytes ({max_message_bytes}); raise it or lower the other"
            ));
        }
        if progress_timeout.is_zero() {
            faults.push("admission.progress_timeout is zero; give it a unit, as in \"30s\"".into());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_have_no_fault() {
        assert_eq!(Config::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let config = Config {
            host_bytes: ByteSize::kib(1),
            max_message_bytes: ByteSize::gib(4),
            progress_timeout: Duration::ZERO,
            ..Config::default()
        };
        assert_eq!(config.validate().len(), 3);
    }
}
