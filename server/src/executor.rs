//! Runs the batches of one model instance as a pipeline of three stages.
//!
//! ```text
//! scheduler -> [h2d] gather, copy -> [compute] forward -> [d2h] copy, wait, split -> replies
//! ```
//!
//! Each stage has a stream of the device; the streams are ordered by events, so that the copies of
//! one batch overlap the forward pass of another. Named threads take turns (`stages`): each takes a
//! batch, enqueues it in every stage, and waits for its outputs while the next thread takes the next.
//! Where that does not pay, a thread keeps the turn; where it pays to overlap the copies of a batch
//! with its own pass, the batch is cut ([`Mode`], [`MicroBatches`]).
//!
//! Invariants: at most `pipeline_depth` batches are between the scheduler and their replies, since
//! there is a thread for each; the host waits for the device in one place, the stage
//! d2h, once for each batch (save for a batch that nobody wants any more, whose memory must be free
//! of it before it goes, and one that is tried again in parts); a stage that panics fails its batch
//! and goes on.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use serde::{Deserialize, Serialize};

use crate::{
    admission::Budget,
    device::{self, Device, Location},
    error::Error,
    model::{self, Instance},
    request::Job,
    scheduler::Scheduler,
    signature::Signature,
    statistics::Statistics,
};

mod batch;
mod compute;
mod d2h;
mod depth;
mod h2d;
mod micro;
mod mode;
mod output_shapes;
mod recovery;
mod stages;

use batch::Batch;
use depth::Depth;
pub use micro::{MicroBatches, UnknownMicroBatches};
pub use mode::{Mode, Path};
pub use output_shapes::OutputShapes;
use stages::Builder;

/// The section `[executor]` of the configuration.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Batches of one instance between the scheduler and their replies. Defaults to 3: one in each
    /// stage.
    pub pipeline_depth: NonZeroUsize,
    /// Whether batches run through the stages. Defaults to `auto`.
    pub mode: Mode,
    /// Whether batches are cut into pieces. Defaults to `auto`.
    pub micro_batches: MicroBatches,
}

impl Config {
    /// Returns the most passes of one instance that may be under way at a time.
    pub fn passes_in_flight(&self, max_batch_size: usize) -> usize {
        let most = match self.micro_batches {
            MicroBatches::Auto => mode::MOST_PIECES,
            MicroBatches::Off => 1,
            MicroBatches::Pieces(pieces) => pieces.get(),
        };
        // A piece has a row at least.
        let pieces = most.min(max_batch_size.max(1));
        self.pipeline_depth.get().saturating_mul(pieces)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pipeline_depth: const { NonZeroUsize::new(3).unwrap() },
            mode: Mode::Auto,
            micro_batches: MicroBatches::Auto,
        }
    }
}

/// What the stages of one model share.
#[derive(Debug)]
pub struct Context {
    /// Inputs and outputs of the model.
    pub signature: Signature,
    /// For each input whether a pass reads it on the host; see [`crate::model::Model::host_inputs`].
    pub host_inputs: Vec<bool>,
    /// What replies are charged to.
    pub budget: Budget,
    /// Where executions are counted.
    pub statistics: Arc<Statistics>,
    /// What is known of the shapes of outputs.
    pub output_shapes: OutputShapes,
}

/// One instance and the threads that run it, one for each batch that may be in flight.
#[derive(Debug)]
pub struct Pipeline {
    threads: Vec<JoinHandle<()>>,
    depth: Arc<Depth>,
    copy: Arc<Mutex<compute::ModelCopy>>,
    location: Location,
    /// Dropped once the pipeline serves.
    warmup: Option<SyncSender<Vec<Box<Job>>>>,
}

/// What a pipeline is made of.
#[derive(Debug)]
pub struct Parts<D: Device> {
    /// Where batches run.
    pub device: Arc<D>,
    /// Where they come from.
    pub scheduler: Arc<Scheduler>,
    /// The number of this instance in its scheduler.
    pub index: usize,
    /// The model's copy.
    pub instance: Box<dyn Instance>,
    /// What it shares with the other instances.
    pub context: Arc<Context>,
    /// Depth and mode.
    pub config: Config,
}

impl Pipeline {
    /// Starts the threads of an instance. They end once the scheduler is closed and empty.
    ///
    /// # Errors
    /// The device has no room for streams, or the system for threads.
    pub fn spawn<D: Device>(parts: Parts<D>) -> Result<Self, device::Error> {
        tell_of_outage(&*parts.device, &parts.scheduler);
        let mut pipeline = Self::spawn_cold(parts)?;
        pipeline.warmup = None;
        Ok(pipeline)
    }

    /// As [`spawn`](Self::spawn), but the scheduler is not asked for batches before
    /// [`serve`](Self::serve); until then [`warm`](Self::warm) gives them. Who makes instances time and
    /// again calls [`tell_of_outage`] once.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn spawn_cold<D: Device>(parts: Parts<D>) -> Result<Self, device::Error> {
        let Parts {
            device,
            scheduler,
            index,
            instance,
            context,
            config,
        } = parts;
        let depth = Arc::new(Depth::default());
        let (warmup, batches) = sync_channel(1);
        let source = Source {
            scheduler,
            index,
            budget: context.budget.clone(),
            depth: Arc::clone(&depth),
            warmup: batches,
        };
        let copy = Arc::new(Mutex::new(compute::ModelCopy::new(instance)));
        let location = device.location();
        // Where nothing is copied, stages gain nothing: one thread is enough, and has the least to
        // do with others.
        let alone = match config.mode {
            Mode::Inline => true,
            Mode::Stages => false,
            Mode::Auto => !device.has_own_memory(),
        };
        let threads = Builder {
            device,
            copy: Arc::clone(&copy),
            context,
            index,
            source,
            mode: if alone { Mode::Inline } else { config.mode },
            micro_batches: config.micro_batches,
        }
        .spawn(if alone {
            1
        } else {
            config.pipeline_depth.get()
        })?;
        Ok(Self {
            threads,
            depth,
            copy,
            location,
            warmup: Some(warmup),
        })
    }

    /// Runs `jobs` as one batch, before the pipeline serves. They are answered as any others.
    pub fn warm(&self, jobs: Vec<Box<Job>>) {
        if let Some(warmup) = &self.warmup {
            // The threads end after the sender is gone. Were they gone, dropping the jobs answers them.
            let _gone = warmup.send(jobs);
        }
    }

    /// Begins to take batches from the scheduler, with no state left of those that warmed it up.
    /// They must have been answered.
    ///
    /// # Errors
    /// The model does not forget.
    pub fn serve(&mut self) -> Result<(), model::Error> {
        if self.warmup.is_some() {
            compute::lock(&self.copy).forget(self.location)?;
        }
        self.warmup = None;
        Ok(())
    }

    /// Returns how many threads run it, and so how many batches can be in flight.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Returns the most batches that were in flight at a time.
    pub fn peak_in_flight(&self) -> usize {
        self.depth.peak()
    }

    /// Waits for the threads to end. Close or park the scheduler first.
    pub fn join(self) {
        let Self {
            threads, warmup, ..
        } = self;
        // They may still wait for what warms them up.
        drop(warmup);
        for thread in threads {
            // A stage catches the panics of its batches, so this is a fault of the stage itself.
            if thread.join().is_err() {
                tracing::error!("a thread of the executor panicked");
            }
        }
    }
}

/// Has what waits at a scheduler, or comes, told when the device fails for good.
pub fn tell_of_outage<D: Device>(device: &D, scheduler: &Arc<Scheduler>) {
    let queue = Arc::downgrade(scheduler);
    device.outage().listen(move |reason| {
        if let Some(queue) = queue.upgrade() {
            queue.fail(reason);
        }
    });
}

/// Where batches come from: first what warms up, then the scheduler.
#[derive(Debug)]
struct Source {
    scheduler: Arc<Scheduler>,
    /// The number of the instance in the scheduler.
    index: usize,
    budget: Budget,
    depth: Arc<Depth>,
    warmup: Receiver<Vec<Box<Job>>>,
}

impl Source {
    fn next(&self) -> Option<Batch> {
        loop {
            let room = self.depth.enter();
            let jobs = match self.warmup.recv() {
                Ok(jobs) => jobs,
                // The sender is gone for good, which costs a look at an atomic from here on.
                Err(_) => self.scheduler.next(self.index)?,
            };
            let batch = Batch::new(jobs, room);
            // Its answers would take more yet, and waiting could be for a reader that never reads.
            if !self.budget.is_overdrawn() {
                return Some(batch);
            }
            batch.fail(&Error::UnreadAnswers);
        }
    }

    /// Returns whether there is more to do than the batch that was taken last.
    fn has_more(&self) -> bool {
        self.depth.in_flight() > 1 || !self.scheduler.is_empty()
    }
}

#[cfg(test)]
mod tests;
