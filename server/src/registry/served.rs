//! One version of a model that is being served.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    device::AnyDevice, executor::Pipeline, memory::Pool, repository::ModelSettings,
    scheduler::Scheduler, statistics::Statistics,
};

/// One version of a model, ready for requests.
#[derive(Debug)]
pub struct Served {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// Its configuration.
    pub settings: ModelSettings,
    /// Its queue.
    pub scheduler: Arc<Scheduler>,
    /// What it has done.
    pub statistics: Arc<Statistics>,
    /// Where its instances run, each device once.
    pub devices: Vec<AnyDevice>,
    /// Where inputs that are not aligned are copied to when they come, since passes read requests
    /// where they lie.
    pub align_in: Option<Pool>,
    /// Its instances; taken when they are joined.
    pub(super) pipelines: Mutex<Vec<Pipeline>>,
}

impl Served {
    /// Returns the most batches that any instance had in flight at a time.
    pub fn peak_in_flight(&self) -> usize {
        let pipelines = self
            .pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pipelines
            .iter()
            .map(Pipeline::peak_in_flight)
            .max()
            .unwrap_or(0)
    }

    /// Returns why the version takes no more requests: its device has failed.
    pub fn failure(&self) -> Option<&str> {
        self.scheduler.failure()
    }

    /// Waits for the instances to end. Close the scheduler first.
    pub(super) fn join(&self) {
        let mut pipelines = self
            .pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pipelines.drain(..).for_each(Pipeline::join);
    }
}
