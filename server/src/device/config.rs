//! The section `[device]` of the configuration.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::simulated::{Costs, Fault, FaultKind, Faults, Link};

/// Which device models run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// libtorch's accelerators where there are some, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// libtorch's accelerators; without one the server does not start.
    Accelerator,
    /// An accelerator made of threads, for trials of the pipeline.
    Simulated,
}

/// What a server does when a device fails for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Its models are not ready any more, and the others are served on.
    #[default]
    NotReady,
    /// The server drains and ends, with an exit status of its own, for a supervisor to start anew.
    Exit,
}

/// The section `[device]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which device. Defaults to `auto`.
    pub kind: Kind,
    /// What to do when the device fails for good. Defaults to `not_ready`.
    pub on_failure: OnFailure,
    /// Simulated: the operation, counted from 0, at which the device fails for good, to see what
    /// health checks and supervisors make of it.
    pub fails_at: Option<u64>,
    /// Accelerators: the library that brings them, by name or by path. Defaults to
    /// `libtorch_cuda.so`.
    pub library: String,
    /// Accelerators: host memory that each may page-lock for its copies. Defaults to 2 GiB.
    pub pinned_bytes: ByteSize,
    /// Simulated: time of each copy to the device, whatever its size.
    #[serde(with = "humantime_serde")]
    pub h2d: Duration,
    /// Simulated: time that a forward pass takes at least.
    #[serde(with = "humantime_serde")]
    pub compute: Duration,
    /// Simulated: time of each copy from the device, whatever its size.
    #[serde(with = "humantime_serde")]
    pub d2h: Duration,
    /// Simulated: bytes per second of copies, each way; absent is as fast as the host copies.
    pub bandwidth: Option<ByteSize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            on_failure: OnFailure::default(),
            fails_at: None,
            library: "libtorch_cuda.so".to_owned(),
            pinned_bytes: ByteSize::gib(2),
            h2d: Duration::ZERO,
            compute: Duration::ZERO,
            d2h: Duration::ZERO,
            bandwidth: None,
        }
    }
}

impl Config {
    /// Returns what operations cost on the simulated device.
    pub(super) fn costs(&self) -> Costs {
        let link = |latency| Link {
            latency,
            bytes_per_second: self.bandwidth.map(|bandwidth| bandwidth.as_u64()),
        };
        Costs {
            h2d: link(self.h2d),
            compute: self.compute,
            d2h: link(self.d2h),
            ..Costs::default()
        }
    }

    /// Returns what goes wrong on the simulated device.
    pub(super) fn faults(&self) -> Faults {
        let last = Fault {
            kind: FaultKind::ForGood,
            at_once: false,
        };
        Faults {
            operations: self
                .fails_at
                .map(|number| (number, last))
                .into_iter()
                .collect(),
            ..Faults::default()
        }
    }

    /// Returns what is wrong with the section.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self
            .bandwidth
            .is_some_and(|bandwidth| bandwidth.as_u64() == 0)
        {
            faults.push("device.bandwidth: must be above 0; leave it out for no limit".to_owned());
        }
        if self.library.is_empty() {
            faults.push("device.library: must not be empty; leave it out for CUDA's".to_owned());
        }
        faults
    }
}
