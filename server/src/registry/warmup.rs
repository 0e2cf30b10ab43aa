//! Runs a model before it is ready: what its `model_warmup` says, then the batch sizes that may
//! come, on every instance, through the same stages and threads that will serve.
//!
//! A first pass makes what later ones find: a compiled graph, kernels for a shape, slabs of memory.
//! Where it is seen that a size as such has nothing to make, others are left to their first request.
//! Invariants: no request is served before the warm-up is over, and nothing of it is left in a
//! model's state or in the statistics.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    device,
    error::Error,
    executor::Pipeline,
    model::{self, RowTime},
    registry::WarmupSizes,
    repository::{ModelSettings, Scheduling, WarmupSample},
    request::{Answer, Job, Reply, Timings},
};

mod item;
mod progress;

use item::Item;
use progress::Progress;

/// A sample of `model_warmup` failed.
#[derive(Debug, thiserror::Error)]
#[error("model_warmup '{sample}': {reason}; mend the sample, or remove it")]
pub struct Failed {
    sample: String,
    reason: String,
}

/// The instances of a model version that is to be ready.
pub(super) struct Warmup<'a> {
    pub(super) settings: &'a ModelSettings,
    pub(super) pipelines: &'a [Pipeline],
    /// What the sizes that nobody asked for may take together, from when the first of them is warm.
    pub(super) limit: Duration,
    /// Which of them are run.
    pub(super) extent: WarmupSizes,
    /// What passes over one row took where the instances are, if that is known.
    pub(super) row: Option<RowTime>,
}

impl Warmup<'_> {
    /// Runs it. Blocks; call it on a thread that may.
    ///
    /// # Errors
    /// A sample that the configuration gives failed. What is made up here may fail.
    pub(super) fn run(&self) -> Result<(), Failed> {
        for sample in &self.settings.warmup {
            self.run_sample(sample).map_err(|reason| Failed {
                sample: sample.name.clone(),
                reason,
            })?;
        }
        if !self.limit.is_zero() {
            self.run_sizes();
        }
        Ok(())
    }

    fn run_sample(&self, sample: &WarmupSample) -> Result<(), String> {
        let item = Item::read(sample, &self.settings.signature.inputs)?;
        for _ in 0..sample.count {
            self.pass(&item, sample.rows, 1)
                .map_err(|stopped| stopped.to_string())?;
        }
        Ok(())
    }

    /// Runs each size, as far as time allows. What a pass takes is told by the one before, so sizes
    /// that seemed too long are looked at once more when larger ones are known.
    fn run_sizes(&self) {
        let model = &self.settings.name;
        let item = match self.settings.warmup.first() {
            Some(sample) => Item::read(sample, &self.settings.signature.inputs),
            None => Item::made_up(&self.settings.signature.inputs),
        };
        let item = match item {
            Ok(item) => item,
            Err(reason) => {
                tracing::info!(%model, reason, "no warm-up: no request can be made up for the model");
                return;
            }
        };
        let mut progress = Progress::new(self.limit);
        let mut sizes = sizes(self.settings.max_batch_size, &self.settings.scheduling);
        let may_settle = self.extent == WarmupSizes::Auto && self.at_once() == 1;
        if may_settle {
            // The second size tells what a size costs, and the smallest tells it soonest.
            sizes.sort_by_key(|&rows| rows > 2);
        }
        let again = sizes.iter().rev();
        for &rows in sizes.iter().chain(again) {
            if may_settle && progress.is_settled() {
                break;
            }
            if progress.warm.contains(&rows) || !progress.has_time_for(rows, self.passes(&progress))
            {
                continue;
            }
            match self.warm_size(&item, rows, &mut progress) {
                Ok(()) => {}
                Err(Stopped::NoMemory(reason)) => {
                    tracing::warn!(%model, rows, reason, "no memory for a batch of this size; it will be run in parts");
                    progress.warm.insert(rows);
                }
                Err(Stopped::DeviceLost(_)) => return,
                Err(Stopped::Refused(reason)) => {
                    tracing::info!(%model, rows, reason, "the warm-up ends here: the model does not take a made-up request");
                    return;
                }
                Err(Stopped::Failed(reason)) => {
                    tracing::warn!(%model, rows, reason, "the warm-up ends here: the model failed, as it may at requests; if it needs other data, write model_warmup");
                    return;
                }
            }
        }
        progress.tell(model, &sizes);
    }

    /// Returns how many batches a pipeline can have in flight.
    fn at_once(&self) -> usize {
        let threads = self.pipelines.iter().map(Pipeline::threads).max();
        threads.unwrap_or(1)
    }

    /// Returns how many batches of a size are run on each instance.
    fn passes(&self, progress: &Progress) -> usize {
        let first = usize::from(progress.is_cold());
        let more = match self.at_once() {
            1 => 0,
            at_once => at_once,
        };
        first + 1 + more
    }

    /// Runs a size: one batch, and where more can be in flight, as many as can at once, which leaves
    /// slabs for all of them. The first of all makes what every later one finds, and is not timed: one
    /// more is, unless its time is known.
    fn warm_size(&self, item: &Item, rows: usize, progress: &mut Progress) -> Result<(), Stopped> {
        let mut known = None;
        if progress.is_cold() {
            let began = Instant::now();
            self.pass(item, rows, 1)?;
            // Instances that run at once hinder each other, which those that were timed did not.
            known = self.row.filter(|_| rows == 1 && self.pipelines.len() == 1);
            progress.begin(known.map_or_else(Instant::now, |_| began));
        }
        match known {
            Some(row) => progress.know(row),
            None => progress.time(rows, || self.pass(item, rows, 1))?,
        }
        if self.at_once() > 1 {
            self.pass(item, rows, self.at_once())?;
        }
        progress.warm.insert(rows);
        Ok(())
    }

    /// Runs `batches` batches of `rows` rows on each instance at once, as serving may.
    fn pass(&self, item: &Item, rows: usize, batches: usize) -> Result<(), Stopped> {
        let mut answers = Vec::new();
        for _ in 0..batches {
            for pipeline in self.pipelines {
                let mut jobs = Vec::new();
                for rows in self.parts(rows) {
                    let (job, answer) = self.job(item, rows).map_err(Stopped::Refused)?;
                    jobs.push(Box::new(job));
                    answers.push(answer);
                }
                pipeline.warm(jobs);
            }
        }
        // All are waited for, also behind one that failed: nothing of a warm-up may be left.
        let ended: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.blocking_recv().unwrap_or(Err(Error::Lost)))
            .collect();
        match ended.into_iter().find_map(Result::err) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Divides a batch into requests: two, where requests are joined, so that memory for joining
    /// them is there afterwards.
    fn parts(&self, rows: usize) -> Vec<usize> {
        match self.settings.scheduling {
            Scheduling::Dynamic(_) if rows > 1 => vec![rows - 1, 1],
            _ => vec![rows],
        }
    }

    fn job(
        &self,
        item: &Item,
        rows: usize,
    ) -> Result<(Job, oneshot::Receiver<Result<Answer, Error>>), String> {
        let (reply, answer) = Reply::channel();
        let batch = self.settings.signature.is_batching().then_some(rows);
        let job = Job {
            model: self.settings.name.clone(),
            inputs: item.tensors(&self.settings.signature.inputs, batch)?,
            rows,
            deadline: None,
            queue_until: None,
            sequence: None,
            life: None,
            permit: None,
            timings: Timings::new(Instant::now()),
            reply,
        };
        Ok((job, answer))
    }
}

/// Why a pass of the warm-up was the last of its size, or of all.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    /// The request is none that the model takes.
    #[error("{0}")]
    Refused(String),
    /// The model failed at it.
    #[error("{0}")]
    Failed(String),
    /// The device has no memory for the batch.
    #[error("{0}")]
    NoMemory(String),
    /// The device has failed, of which others tell.
    #[error("{0}")]
    DeviceLost(String),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::DeviceMemory { .. } | Error::SequenceMemory { .. } => Self::NoMemory(text),
            Error::DeviceLost { .. } => Self::DeviceLost(text),
            Error::Device(cause) if cause.is_final() => Self::DeviceLost(text),
            Error::Model(model::Error::Input { .. })
            | Error::Device(device::Error::Model(model::Error::Input { .. })) => {
                Self::Refused(text)
            }
            _ => Self::Failed(text),
        }
    }
}

/// Up to this size each is looked at: a configuration may allow any number.
const MOST_SIZES: usize = 4096;

/// Returns the batch sizes that may come, those first that will come most: one row, the largest
/// batch, what batches are aimed at, powers of two, the rest.
fn sizes(max_batch_size: usize, scheduling: &Scheduling) -> Vec<usize> {
    let most = max_batch_size.max(1);
    let preferred = match scheduling {
        Scheduling::Sequence(_) => return vec![1],
        Scheduling::Dynamic(batching) => &batching.preferred_batch_sizes[..],
        Scheduling::Each => &[],
    };
    let powers = (1..usize::BITS).map(|power| 1 << power);
    let powers = powers.take_while(|&power| power < most);
    let order = [1, most]
        .into_iter()
        .chain(preferred.iter().copied())
        .chain(powers)
        .chain(1..=most.min(MOST_SIZES));
    let mut seen = BTreeSet::new();
    order.filter(|&size| seen.insert(size)).collect()
}

#[cfg(test)]
#[path = "warmup_tests.rs"]
mod tests;
