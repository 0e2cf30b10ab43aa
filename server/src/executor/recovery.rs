//! What becomes of a batch that a stage could not hand on.
//!
//! Where the device had no memory for it, its caches are freed and the batch is run again in halves,
//! down to single jobs; what still finds no memory fails on its own. An error that the device will
//! not be free of any more is declared, which ends the models on it. All else fails the batch.
//!
//! Invariants: a batch is tried again on the thread that noticed, by one thread of an instance at a
//! time, with copies on streams of their own and its passes on the instance's stream, so batches in
//! flight are not disturbed; requests of sequences, whose order counts, are never tried again.

use std::sync::{Mutex, PoisonError};

use super::{
    batch::Batch,
    compute, d2h, h2d,
    stages::{Builder, run_through},
};
use crate::{
    device::{self, Device},
    error::Error,
};

/// Why a stage did not hand its batch on.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nobody wants the batch any more, and its jobs were told so.
    Gone,
    /// An operation failed; the jobs are not answered yet.
    Failed(Box<Failed>),
}

/// A batch and what went wrong with it.
#[derive(Debug)]
pub(super) struct Failed {
    batch: Batch,
    error: Error,
}

impl Stop {
    pub(super) fn failed(batch: Batch, error: impl Into<Error>) -> Self {
        let error = error.into();
        Self::Failed(Box::new(Failed { batch, error }))
    }
}

/// Deals with the batches of one instance that failed.
#[derive(Debug)]
pub(super) struct Recovery<D: Device> {
    builder: Builder<D>,
    /// Made when they are needed first; locked by the thread that tries a batch again.
    stages: Mutex<Option<Stages<D>>>,
}

/// The stages that batches are tried again in.
#[derive(Debug)]
struct Stages<D: Device> {
    h2d: h2d::Stage<D>,
    compute: compute::Stage<D>,
    d2h: d2h::Stage<D>,
}

impl Failed {
    fn is_out_of_memory(&self) -> bool {
        matches!(&self.error, Error::Device(cause) if cause.is_out_of_memory())
    }

    /// Tells the jobs that the device has too little memory for them.
    fn exhausted(self) {
        let error = Error::DeviceMemory {
            model: self.batch.model().to_owned(),
            rows: self.batch.rows(),
            reason: self.error.to_string(),
        };
        self.batch.fail(&error);
    }
}

impl<D: Device> Recovery<D> {
    pub(super) fn new(builder: Builder<D>) -> Self {
        Self {
            builder,
            stages: Mutex::default(),
        }
    }

    /// Returns what makes the stages of the instance.
    pub(super) fn builder(&self) -> &Builder<D> {
        &self.builder
    }

    /// Answers the jobs of a batch that stopped, after another try where that may help.
    pub(super) fn take(&self, stop: Stop) {
        let Stop::Failed(failed) = stop else {
            return;
        };
        match &failed.error {
            Error::Device(cause) if cause.is_final() => {
                self.builder.device.outage().declare(&cause.to_string());
            }
            Error::Device(cause) if cause.is_out_of_memory() => return self.retry(*failed),
            _ => {}
        }
        failed.batch.fail(&failed.error);
    }

    fn retry(&self, failed: Failed) {
        let device = &self.builder.device;
        // Where inputs are lent to the pass, it may have written to them. What a request of a
        // sequence has done to its state cannot be taken back.
        if !device.has_own_memory() || failed.batch.life().is_some() {
            return failed.exhausted();
        }
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let stages = match self.stages(&mut stages) {
            Ok(stages) => stages,
            Err(cause) if cause.is_final() => return self.take(Stop::failed(failed.batch, cause)),
            Err(_) => return failed.exhausted(),
        };
        let Failed { batch, error } = failed;
        let (model, rows) = (batch.model(), batch.rows());
        tracing::warn!(model, rows, %error, "trying a batch again in parts");
        device.reclaim();
        let mut rest = batch.halves();
        rest.reverse();
        while let Some(part) = rest.pop() {
            let Err(stop) = run_through(part, &stages.h2d, &stages.compute, &stages.d2h) else {
                continue;
            };
            match stop {
                Stop::Failed(failed) if failed.is_out_of_memory() => {
                    device.reclaim();
                    if failed.batch.is_single() {
                        failed.exhausted();
                    } else {
                        rest.extend(failed.batch.halves().into_iter().rev());
                    }
                }
                // Not out of memory, so this goes no deeper.
                stop => self.take(stop),
            }
        }
    }

    fn stages<'a>(
        &self,
        stages: &'a mut Option<Stages<D>>,
    ) -> Result<&'a Stages<D>, device::Error> {
        Ok(match stages {
            Some(made) => made,
            none => none.insert(Stages {
                h2d: self.builder.h2d("again-h2d")?,
                compute: self.builder.compute(),
                d2h: self.builder.d2h("again-d2h")?,
            }),
        })
    }
}
