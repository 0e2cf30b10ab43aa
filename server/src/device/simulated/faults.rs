//! What goes wrong on a simulated device, and when: planned by whoever makes it.
//!
//! Invariant: operations (uploads, passes, downloads) are counted from 0 as they are enqueued, over
//! all streams, and what happens to one follows from its number, the plan and the seed alone.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{super::Error, NAME};
use crate::model;

/// What goes wrong on a simulated device. By default nothing does.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Bytes of memory that the device has, for inputs and outputs; `None` is no limit.
    pub memory_bytes: Option<usize>,
    /// Operations that fail, by their number.
    pub operations: BTreeMap<u64, Fault>,
    /// Each operation takes up to this much longer, at random.
    pub jitter: Duration,
    /// What random times are made from.
    pub seed: u64,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Whether enqueueing it says so, or the result of what is made from it.
    pub at_once: bool,
}

/// What is wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It finds no memory.
    OutOfMemory,
    /// It fails; others do not.
    Once,
    /// It fails, and with it everything after it.
    ForGood,
}

/// Carries out a plan.
#[derive(Debug)]
pub(super) struct Injector {
    faults: Faults,
    enqueued: AtomicU64,
    broken: OnceLock<Error>,
}

/// What is planned for one operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// How much longer it takes.
    pub(super) delay: Duration,
    fault: Option<(u64, FaultKind)>,
}

impl Injector {
    pub(super) fn new(faults: Faults) -> Self {
        Self {
            faults,
            enqueued: AtomicU64::new(0),
            broken: OnceLock::new(),
        }
    }

    /// Fails once the device is broken.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.broken.get().cloned().map_or(Ok(()), Err)
    }

    /// Counts an operation that is enqueued. It is refused where it fails at once.
    pub(super) fn enqueue(&self) -> Result<Plan, Error> {
        self.check()?;
        let number = self.enqueued.fetch_add(1, Ordering::Relaxed);
        let fault = self.faults.operations.get(&number);
        if let Some(fault) = fault.filter(|fault| fault.at_once) {
            return Err(self.fail(number, fault.kind));
        }
        let nanos = u64::try_from(self.faults.jitter.as_nanos()).unwrap_or(u64::MAX);
        let random = mix(self.faults.seed.wrapping_add(number));
        Ok(Plan {
            delay: Duration::from_nanos(random % nanos.saturating_add(1)),
            fault: fault.map(|fault| (number, fault.kind)),
        })
    }

    /// Fails an operation that begins now, where that is planned, or the device is broken.
    pub(super) fn begin(&self, plan: Plan) -> Result<(), Error> {
        self.check()?;
        plan.fault
            .map_or(Ok(()), |(number, kind)| Err(self.fail(number, kind)))
    }

    fn fail(&self, number: u64, kind: FaultKind) -> Error {
        let (device, reason) = (NAME.to_owned(), format!("planned for operation {number}"));
        match kind {
            FaultKind::OutOfMemory => Error::OutOfMemory { device, reason },
            FaultKind::Once => Error::Model(model::Error::Forward(reason)),
            FaultKind::ForGood => {
                let broken = Error::Failed { device, reason };
                self.broken.get_or_init(|| broken).clone()
            }
        }
    }
}

/// The finalizer of SplitMix64: numbers in order come out as if drawn.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
