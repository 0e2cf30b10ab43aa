//! The store: tensors go to the disks and come back, asynchronously and in any order.
//!
//! A [`Store`] is a handle. What it knows is in one place behind a lock (`core`), and one thread for
//! each directory (`driver`) moves the bytes through its engine.
//!
//! Invariant: a tensor that was accepted comes back as it was, or with an error that says why not;
//! until it is written it is in memory.

use std::{
    future::Future,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{
    bounds::Bounds,
    config::Config,
    engine::Engine,
    error::{Error, Lost, OpenError, Refused},
    memory::{HostBuf, Pool},
    seal::Sealer,
    stats::Stats,
};

mod blocking;
mod core;
mod data;
mod driver;
mod entry;
mod health;
mod open;
mod parked;
mod retry;
mod shared;

pub use self::core::Class;
pub use blocking::Blocking;
pub use data::Data;
pub use parked::Parked;

use self::core::{Core, Disk};
use driver::Driver;
pub(crate) use driver::Files;
use shared::{Running, Shared};

/// A tensor store on NVMe.
///
/// Clones are handles of the same store. When the last one is dropped, the intake ends, what was
/// accepted is written, reads that somebody waits for are answered, and the threads end; the drop
/// waits for all that.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
    bounds: Bounds,
    /// Last, so that it is dropped when no handle is left.
    _threads: Arc<Threads>,
}

/// What a reader is told.
type Answer = Result<HostBuf, Error>;
/// What became of a write.
type Outcome = Result<(), Error>;

/// What a directory's thread works with.
pub(crate) struct Backend {
    pub(crate) path: Arc<Path>,
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) files: Box<dyn Files>,
}

impl Store {
    /// Starts a store on these directories.
    pub(crate) fn start(
        config: Config,
        pool: Pool,
        backends: Vec<Backend>,
    ) -> Result<Self, OpenError> {
        let sealer = Sealer::new(config.checksum, config.encrypt).map_err(OpenError::Start)?;
        let alarms = backends.iter().map(|b| b.engine.alarm()).collect();
        let disk = |(i, b): (u16, &Backend)| Disk::new(i, Arc::clone(&b.path), b.engine.name());
        let disks = (0..).zip(&backends).map(disk).collect();
        let (bounds, min_free_bytes) = (config.bounds(), config.min_free_bytes);
        let core = Core::new(config, disks, sealer.in_place());
        let shared = Arc::new(Shared::new(core, pool, sealer, alarms));
        let mut threads = Threads::new(Arc::clone(&shared));
        for (dir, backend) in backends.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let Backend { engine, files, .. } = backend;
            let thread = thread::Builder::new()
                .name(format!("fb-spill-{dir}"))
                .spawn(move || {
                    let _running = Running(Arc::clone(&shared));
                    Driver::new((dir, shared), engine, files, min_free_bytes).run();
                })
                .map_err(OpenError::Start)?;
            threads.add(thread);
        }
        Ok(Self {
            shared,
            bounds,
            _threads: Arc::new(threads),
        })
    }

    /// Takes a tensor to be written; returns at once.
    ///
    /// # Errors
    /// There is no room in the store, on the disks or in the write queue, or nothing is taken any
    /// more. The tensor comes back with the error, which is [`Error::TooLarge`] where the tensor has
    /// more bytes than the whole store.
    pub fn offload(&self, data: impl Into<Data>) -> Result<Parked, Refused> {
        let (data, now) = (data.into(), Instant::now());
        let len = data.len();
        let never = self.bounds.exceeded([len]);
        let id = self
            .shared
            .with(|core| core.admit(data, never.as_ref(), now))?;
        Ok(self.parked(id, len))
    }

    /// Takes tensors to be written, all at once, so that small ones share writes; returns at once.
    /// Each is accepted or refused for itself, as by [`offload`](Self::offload). Where all together
    /// never fit, as they have more bytes than an empty write queue takes, those that are refused
    /// come back with [`Error::TooLarge`] instead of [`Error::QueueFull`]: to try the same call again
    /// is of no use, to offload fewer at once is. A full store says [`Error::Full`] all the same,
    /// unless all together have more bytes than it ever takes.
    pub fn offload_all(&self, all: Vec<Data>) -> Vec<Result<Parked, Refused>> {
        let now = Instant::now();
        let never = self.bounds.exceeded(all.iter().map(Data::len));
        let admitted: Vec<_> = self.shared.with(|core| {
            all.into_iter()
                .map(|data| (data.len(), core.admit(data, never.as_ref(), now)))
                .collect()
        });
        admitted
            .into_iter()
            .map(|(len, id)| id.map(|id| self.parked(id, len)))
            .collect()
    }

    /// Takes tensors to be written as [`offload_all`](Self::offload_all) does, but all of them or none:
    /// of those that are refused nothing has been read, so that who shares their memory may write to it.
    ///
    /// # Errors
    /// There is no room for all of them. They come back with the error.
    pub fn offload_together(&self, all: Vec<Data>) -> Result<Vec<Parked>, (Error, Vec<Data>)> {
        let now = Instant::now();
        let never = self.bounds.exceeded(all.iter().map(Data::len));
        let taken = self.shared.with(|core| {
            match core.check(all.iter().map(Data::len), never.as_ref(), now) {
                Ok(()) => {
                    let take = |data: Data| (data.len(), core.take(data));
                    Ok(all.into_iter().map(take).collect::<Vec<_>>())
                }
                Err(error) => Err((error, all)),
            }
        })?;
        let parked = taken.into_iter().map(|(len, id)| self.parked(id, len));
        Ok(parked.collect())
    }

    /// Brings a tensor back and frees its place. It starts at once; the memory is leased when it is
    /// its turn. What is not written yet comes back from memory.
    ///
    /// # Errors
    /// The disk failed or the tensor is damaged.
    ///
    /// # Cancel safety
    /// Dropping the future drops the tensor; what is in flight ends first.
    ///
    /// # Panics
    /// If the tensor is parked in another store.
    pub fn onboard(
        &self,
        parked: Parked,
        class: Class,
    ) -> impl Future<Output = Result<HostBuf, Lost>> + Send + use<> {
        self.check(&parked);
        let answer = self.shared.with(|core| core.ask(parked.id(), class, true));
        arrival(parked, answer)
    }

    /// Brings tensors back as [`onboard`](Self::onboard) does, in one go: neighbours on the disk
    /// share reads. The futures are in the order of the tensors.
    ///
    /// # Panics
    /// If a tensor is parked in another store.
    pub fn onboard_all(
        &self,
        all: Vec<Parked>,
        class: Class,
    ) -> Vec<impl Future<Output = Result<HostBuf, Lost>> + Send + use<>> {
        all.iter().for_each(|parked| self.check(parked));
        let answers = self.shared.with(|core| {
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by_key(|i| core.position(all[*i].id()));
            let mut answers: Vec<_> = order
                .into_iter()
                .map(|i| (i, core.ask(all[i].id(), class, true)))
                .collect();
            answers.sort_unstable_by_key(|(i, _)| *i);
            answers
        });
        let arrive = |(parked, (_, answer))| arrival(parked, answer);
        all.into_iter().zip(answers).map(arrive).collect()
    }

    /// Reads a tensor, which stays parked. It starts at once, as [`onboard`](Self::onboard) does.
    ///
    /// # Errors
    /// The disk failed or the tensor is damaged.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// # Panics
    /// If the tensor is parked in another store.
    pub fn read<'a>(
        &self,
        parked: &'a Parked,
        class: Class,
    ) -> impl Future<Output = Result<HostBuf, Error>> + Send + use<'a> {
        self.check(parked);
        let answer = self.shared.with(|core| core.ask(parked.id(), class, false));
        async move {
            // The tensor is borrowed until then, so that it is not taken meanwhile.
            let _parked = parked;
            answer.await.unwrap_or(Err(Error::Closed))
        }
    }

    /// Waits until all tensors that were accepted before the call are written or failed.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub fn synchronize(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        let horizon = shared.with(|core| core.horizon());
        async move {
            loop {
                let settled = shared.settled.notified();
                if shared.with(|core| core.is_settled(horizon)) {
                    return;
                }
                settled.await;
            }
        }
    }

    /// Returns the same calls for threads that may sleep.
    pub fn blocking(&self) -> Blocking<'_> {
        Blocking(self)
    }

    /// Returns what the store takes in one call, however empty it is.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Returns what the store has done and holds.
    pub fn stats(&self) -> Stats {
        self.shared.with(|core| core.stats())
    }

    fn parked(&self, id: u64, len: usize) -> Parked {
        Parked::new(Arc::clone(&self.shared), id, len)
    }

    fn check(&self, parked: &Parked) {
        assert!(
            parked.is_of(&self.shared),
            "a tensor comes back from the store that has it"
        );
    }
}

/// Waits for a tensor that was asked for with its place.
async fn arrival(parked: Parked, answer: oneshot::Receiver<Answer>) -> Result<HostBuf, Lost> {
    let error = match answer.await {
        Ok(Ok(buffer)) => return Ok(buffer),
        Ok(Err(error)) => error,
        Err(_) => Error::Closed,
    };
    let parked = error.is_retryable().then_some(parked);
    Err(Lost { error, parked })
}

/// The threads of a store, joined when it is dropped.
#[derive(Debug)]
struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            handles: Mutex::default(),
        }
    }

    fn add(&mut self, thread: JoinHandle<()>) {
        let handles = self.handles.get_mut();
        handles.unwrap_or_else(PoisonError::into_inner).push(thread);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.with(Core::close);
        let handles = self.handles.get_mut();
        let handles = handles.unwrap_or_else(PoisonError::into_inner);
        // A handle may be dropped by a waker, on a thread that is to end: it would wait for others
        // that wait for what it has in flight itself.
        let here = thread::current().id();
        if handles.iter().any(|handle| handle.thread().id() == here) {
            return;
        }
        for thread in handles.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a spill thread panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
