//! The section `[device]` of the configuration.

use std::{sync::Arc, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::{
    AnyDevice, Cpu, Simulated,
    simulated::{Costs, Fault, FaultKind, Faults, Link},
};
use crate::memory::Pool;

/// Which device models run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The CPU.
    #[default]
    Cpu,
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
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which device. Defaults to `cpu`.
    pub kind: Kind,
    /// What to do when the device fails for good. Defaults to `not_ready`.
    pub on_failure: OnFailure,
    /// Simulated: the operation, counted from 0, at which the device fails for good, to see what
    /// health checks and supervisors make of it.
    pub fails_at: Option<u64>,
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

impl Config {
    /// Makes the device; batches are gathered in slabs of `pool`.
    pub fn open(&self, pool: Pool) -> AnyDevice {
        let link = |latency| Link {
            latency,
            bytes_per_second: self.bandwidth.map(|bandwidth| bandwidth.as_u64()),
        };
        match self.kind {
            Kind::Cpu => AnyDevice::Cpu(Arc::new(Cpu::new(pool))),
            Kind::Simulated => AnyDevice::Simulated(Arc::new(Simulated::with_faults(
                Costs {
                    h2d: link(self.h2d),
                    compute: self.compute,
                    d2h: link(self.d2h),
                    ..Costs::default()
                },
                pool,
                self.faults(),
            ))),
        }
    }

    fn faults(&self) -> Faults {
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
        faults
    }
}
