//! One version of a model that is being served.
//!
//! Invariant: its queue, statistics and settings stay while its instances leave memory and come back.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use forebay_proto::inference::{ForebayResidencyStatistics, ModelStatistics};
use tokio::sync::watch;

use super::{blueprint::Blueprint, load::Error};
use crate::{
    device::AnyDevice,
    error,
    executor::Pipeline,
    memory::Pool,
    repository::ModelSettings,
    residency::{Lease, Member, Resident},
    scheduler::Scheduler,
    statistics::Statistics,
};

/// How long after a failure a request has the weights brought in again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
    /// What its weights take in memory.
    pub weights_bytes: u64,
    /// Its instances; none while it is out of memory, or once they are joined.
    pub(super) pipelines: Mutex<Vec<Pipeline>>,
    /// What they are made of anew, where its weights may leave memory.
    pub(super) blueprint: Option<Blueprint>,
    /// Its place on the roster of such models.
    pub(super) member: OnceLock<Member>,
    pub(super) visits: Mutex<Visits>,
    /// Told when it begins or ends to take requests, other than by a failure of its device.
    pub(super) readiness: watch::Sender<()>,
}

/// How a version came into memory and left it, since it was loaded.
#[derive(Debug, Default)]
pub(super) struct Visits {
    is_out: bool,
    came: u64,
    coming: Duration,
    left: u64,
    /// When and why it did not come the last time.
    failed: Option<(Instant, String)>,
}

impl Served {
    /// Returns the most batches that any instance had in flight at a time.
    pub fn peak_in_flight(&self) -> usize {
        let pipelines = lock(&self.pipelines);
        pipelines
            .iter()
            .map(Pipeline::peak_in_flight)
            .max()
            .unwrap_or(0)
    }

    /// Returns why the version takes no requests: its device has failed, or it could not be brought
    /// back into memory.
    pub fn failure(&self) -> Option<String> {
        if let Some(lost) = self.scheduler.failure() {
            return Some(lost.to_owned());
        }
        // Asked for each request: where the weights never leave, nothing is locked.
        self.member.get()?;
        let visits = lock(&self.visits);
        visits.failed.as_ref().map(|(_, reason)| reason.clone())
    }

    /// Returns whether the version could not be brought back, but a request may have it tried again.
    pub(super) fn may_be_tried(&self, now: Instant) -> bool {
        let visits = lock(&self.visits);
        let failed = visits.failed.as_ref();
        let is_due = failed.is_some_and(|(at, _)| now.duration_since(*at) >= RETRY_AFTER);
        drop(visits);
        let comes = || {
            self.member
                .get()
                .is_some_and(|member| member.may_be_tried(now))
        };
        is_due && self.scheduler.failure().is_none() && comes()
    }

    /// Says that a request is there, which must be queued after this and hold the lease until it is
    /// answered. There is none where the weights stay in memory.
    pub fn lease(&self) -> Option<Lease> {
        self.member.get().map(Member::lease)
    }

    /// Returns whether the weights are in memory.
    pub fn is_resident(&self) -> bool {
        !lock(&self.visits).is_out
    }

    /// Returns the statistics in the protocol's form.
    pub fn report(&self) -> ModelStatistics {
        let visits = lock(&self.visits);
        ModelStatistics {
            forebay_residency: Some(ForebayResidencyStatistics {
                resident: !visits.is_out,
                weights_bytes: self.weights_bytes,
                brought_in_count: visits.came,
                brought_in_ns: u64::try_from(visits.coming.as_nanos()).unwrap_or(u64::MAX),
                evicted_count: visits.left,
            }),
            ..self.statistics.report(&self.name, self.version)
        }
    }

    /// Waits for the instances to end. Close the scheduler first.
    pub(super) fn join(&self) {
        let pipelines = mem::take(&mut *lock(&self.pipelines));
        pipelines.into_iter().for_each(Pipeline::join);
    }

    /// Makes the instances again, if they are still to be had as they were.
    fn restart(&self, blueprint: &Blueprint) -> Result<Vec<Pipeline>, String> {
        if let Some(reason) = self.scheduler.failure() {
            return Err(reason.to_owned());
        }
        blueprint.file.check()?;
        let started = blueprint.start();
        let started = started.map_err(|error: Error| error.to_string())?;
        Ok(started.pipelines)
    }

    /// Lets instances that were made again serve. They are not warmed up: who waits would wait for
    /// that too, and its own pass does as much.
    fn resume(&self, mut pipelines: Vec<Pipeline>, took: Duration) -> Result<(), String> {
        let (model, version, bytes) = (&self.name, self.version, self.weights_bytes);
        let waiting = self.scheduler.len();
        tracing::info!(%model, version, bytes, ?took, waiting, "weights came into memory");
        {
            // Noted before anything is answered: whoever has an answer finds it in the statistics.
            let mut visits = lock(&self.visits);
            visits.is_out = false;
            visits.came += 1;
            visits.coming += took;
            if visits.failed.take().is_some() {
                self.readiness.send_replace(());
            }
        }
        self.scheduler.resume();
        for pipeline in &mut pipelines {
            pipeline.serve().map_err(|error| error.to_string())?;
        }
        *lock(&self.pipelines) = pipelines;
        Ok(())
    }
}

impl Resident for Served {
    fn come(&self) -> Result<(), String> {
        let Some(blueprint) = &self.blueprint else {
            return Ok(());
        };
        let began = Instant::now();
        // A panic too is a failure that requests are to be told.
        let pipelines = catch_unwind(AssertUnwindSafe(|| self.restart(blueprint)));
        let pipelines =
            pipelines.unwrap_or_else(|_| Err("loading it panicked; see the log".to_owned()));
        let came = pipelines.and_then(|pipelines| self.resume(pipelines, began.elapsed()));
        came.inspect_err(|reason| {
            tracing::error!(model = %self.name, version = self.version, %reason, "weights did not come into memory");
            let mut visits = lock(&self.visits);
            visits.is_out = true;
            visits.failed = Some((Instant::now(), reason.clone()));
            drop(visits);
            self.readiness.send_replace(());
            // Instances that were made find this and end.
            self.scheduler.suspend();
            if self.scheduler.failure().is_none() {
                // Else it stays: to free memory of a broken device may end the process.
                blueprint.release();
            }
        })
    }

    fn leave(&self) {
        let Some(blueprint) = &self.blueprint else {
            return;
        };
        let began = Instant::now();
        self.scheduler.suspend();
        if self.scheduler.failure().is_none() {
            self.join();
            blueprint.release();
        }
        // Else they stay: to free memory of a broken device may end the process.
        let (model, version, took) = (&self.name, self.version, began.elapsed());
        let mut visits = lock(&self.visits);
        visits.is_out = true;
        visits.left += 1;
        tracing::info!(%model, version, bytes = self.weights_bytes, ?took, "weights left memory");
    }

    fn refuse(&self, reason: &str) {
        self.scheduler.refuse(|job| error::Error::NotReady {
            model: job.model.clone(),
            version: self.version,
            reason: reason.to_owned(),
        });
    }

    fn is_lost(&self) -> bool {
        self.scheduler.failure().is_some()
    }

    fn looks_well(&self) -> bool {
        let blueprint = self.blueprint.as_ref();
        let file = blueprint.map_or(Ok(()), |blueprint| blueprint.file.check());
        file.is_ok() && !self.is_lost()
    }
}

/// What these guard is changed in one go, so a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
