//! Runs the batches of one model instance as a pipeline of three stages.
//!
//! ```text
//! scheduler -> [h2d] gather, copy -> [compute] forward -> [d2h] copy, wait, split -> replies
//! ```
//!
//! Each stage has a named thread and a stream of the device; the streams are ordered by events, so
//! that the copies of one batch overlap the forward pass of another. Where copies are too small to
//! pay for the hand-over between threads, the compute thread runs a batch through all stages
//! ([`Mode`]).
//!
//! Invariants: at most `pipeline_depth` batches are between the scheduler and their replies; a batch
//! is formed only when there is room for it; the host waits for the device in one place, the stage
//! d2h (save for a batch that nobody
//! wants any more, whose memory must be free of it before it goes, and one that is tried again); a
//! stage that panics fails its batch and goes on.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use serde::{Deserialize, Serialize};

use crate::{
    admission::Budget,
    device::{self, Device},
    model::Instance,
    scheduler::Scheduler,
    signature::Signature,
    statistics::Statistics,
};

mod batch;
mod compute;
mod d2h;
mod depth;
mod h2d;
mod mode;
mod recovery;
mod stages;

use batch::Batch;
use depth::Depth;
pub use mode::Mode;
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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pipeline_depth: const { NonZeroUsize::new(3).unwrap() },
            mode: Mode::Auto,
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
}

/// One instance and the threads that run it.
#[derive(Debug)]
pub struct Pipeline {
    threads: Vec<JoinHandle<()>>,
    depth: Arc<Depth>,
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
        let Parts {
            device,
            scheduler,
            index,
            instance,
            context,
            config,
        } = parts;
        let depth = Arc::new(Depth::new(config.pipeline_depth));
        let source = Source {
            scheduler,
            index,
            depth: Arc::clone(&depth),
        };
        let staged = match config.mode {
            Mode::Inline => false,
            Mode::Stages => true,
            Mode::Auto => device.has_own_memory(),
        };
        // What waits, or comes, when the device fails for good is told so.
        let queue = Arc::downgrade(&source.scheduler);
        device.outage().listen(move |reason| {
            if let Some(queue) = queue.upgrade() {
                queue.fail(reason);
            }
        });
        let stream = device.open_stream(&format!("compute-{index}"))?;
        let stages = Builder {
            device,
            stream: Arc::new(Mutex::new(stream)),
            copy: Arc::new(Mutex::new(compute::ModelCopy::new(instance))),
            context,
            index,
        };
        let threads = if staged {
            stages.spawn_staged(source, config.mode)?
        } else {
            stages.spawn_inline(source)?
        };
        Ok(Self { threads, depth })
    }

    /// Returns the most batches that were in flight at a time.
    pub fn peak_in_flight(&self) -> usize {
        self.depth.peak()
    }

    /// Waits for the threads to end. Close the scheduler first.
    pub fn join(self) {
        for thread in self.threads {
            // A stage catches the panics of its batches, so this is a fault of the stage itself.
            if thread.join().is_err() {
                tracing::error!("a thread of the executor panicked");
            }
        }
    }
}

/// Where batches come from: the scheduler, as long as there is room in the pipeline.
#[derive(Debug)]
struct Source {
    scheduler: Arc<Scheduler>,
    /// The number of the instance in the scheduler.
    index: usize,
    depth: Arc<Depth>,
}

impl Source {
    fn next(&self) -> Option<Batch> {
        let room = self.depth.acquire();
        let jobs = self.scheduler.next(self.index)?;
        Some(Batch::new(jobs, room))
    }

    /// Returns whether there is more to do than the batch that was taken last.
    fn has_more(&self) -> bool {
        self.depth.in_flight() > 1 || !self.scheduler.is_empty()
    }
}

#[cfg(test)]
mod tests;
