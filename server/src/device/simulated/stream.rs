//! A stream of the simulated device: a worker thread with a bounded queue, and a time of its own.
//!
//! What is enqueued in time begins when the operation before it ends, as on a device, also where a
//! busy host wakes the worker late.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{Error, clocks::Observer, lock, memory::Taken};
use crate::{model, tensor::HostTensor};

/// Operations that may wait in a stream; enqueueing one more waits, as it does on real devices.
const QUEUED: usize = 64;

/// An operation: takes the time when it begins and returns the time when it ends.
pub(super) type Task = Box<dyn FnOnce(Instant) -> Instant + Send>;

/// A task and when it was enqueued.
type Enqueued = (Instant, Task);

/// A stream of the simulated device.
#[derive(Debug)]
pub struct Stream {
    id: Observer,
    name: String,
    queue: Option<SyncSender<Enqueued>>,
    worker: Option<JoinHandle<()>>,
}

impl Stream {
    pub(super) fn spawn(id: Observer, name: &str) -> Result<Self, Error> {
        let (queue, tasks) = sync_channel::<Enqueued>(QUEUED);
        let worker = thread::Builder::new()
            .name(format!("fb-sim-{name}"))
            .spawn(move || run(&tasks))
            .map_err(|_| Error::Stopped(name.to_owned()))?;
        Ok(Self {
            id,
            name: name.to_owned(),
            queue: Some(queue),
            worker: Some(worker),
        })
    }

    pub(super) fn id(&self) -> Observer {
        self.id
    }

    pub(super) fn send(&self, task: Task) -> Result<(), Error> {
        let stopped = || Error::Stopped(self.name.clone());
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send((Instant::now(), task)).map_err(|_| stopped())
    }
}

fn run(tasks: &Receiver<Enqueued>) {
    let mut time = Instant::now();
    while let Ok((enqueued, task)) = tasks.recv() {
        time = time.max(enqueued);
        // Where a task panics, its own slot stays unfilled and reports the failure to whoever takes
        // from it.
        time = catch_unwind(AssertUnwindSafe(|| task(time))).unwrap_or(time);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(worker) = self.worker.take() {
            // The worker catches panics, so it ends well.
            let _joined = worker.join();
        }
    }
}

/// What a buffer of the simulated device holds.
#[derive(Debug)]
pub(super) enum Content {
    Ready(Tensors),
    Failed(Error),
}

/// Tensors, and the account of the memory that they take on the device.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    pub(super) all: Vec<Option<HostTensor>>,
    pub(super) _taken: Option<Taken>,
}

impl Default for Content {
    fn default() -> Self {
        Self::Failed(Error::Model(model::Error::Forward(
            "an operation on the simulated device panicked".to_owned(),
        )))
    }
}

/// The place of a buffer's content, which an operation fills later.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Content>>>);

impl Slot {
    pub(super) fn fill(&self, content: Content) {
        *lock(&self.0) = Some(content);
    }

    pub(super) fn take(&self) -> Content {
        lock(&self.0).take().unwrap_or_default()
    }
}

/// Tells when a point in a stream was reached.
#[derive(Debug, Clone, Default)]
pub(super) struct Completion(Arc<(Mutex<Option<Instant>>, Condvar)>);

impl Completion {
    pub(super) fn complete(&self, at: Instant) {
        *lock(&self.0.0) = Some(at);
        self.0.1.notify_all();
    }

    pub(super) fn wait(&self) -> Instant {
        let mut at = lock(&self.0.0);
        loop {
            if let Some(at) = *at {
                return at;
            }
            at = self.0.1.wait(at).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
