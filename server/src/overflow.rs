//! Keeps the bytes of queued requests within the host budget: what runs last goes to NVMe, and comes
//! back before it is needed.
//!
//! One task watches the budget and the queues. Above the high mark it parks the request that runs
//! last; what comes near the head of its queue it brings back. The store does the I/O on threads of
//! its own, so nothing here blocks.
//!
//! Invariant: a request that is queued stays queued whatever becomes of its tensors: it runs with
//! them, or is answered with why they are lost.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use forebay_spill::{Class, Error as SpillError, OpenError, Store};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

mod cargo;
mod config;
mod marks;
mod pause;
mod watched;

use crate::{
    admission::Budget,
    error::Error,
    memory::Pool,
    request::{Cargo, Parking},
    scheduler::{Scheduler, Signal, Ticket},
};
use cargo::Accepted;
pub use config::Config;
use marks::Marks;
use pause::Pause;
use watched::watched;

/// Parks requests, and brings them back.
#[derive(Debug)]
pub struct Overflow {
    store: Store,
    budget: Budget,
    queues: Vec<Arc<Scheduler>>,
    marks: Marks,
    floor_bytes: u64,
    /// Told when a queue or the budget has moved.
    signal: Arc<Signal>,
}

/// What the task waits for.
#[derive(Debug, Default)]
struct InFlight {
    writes: FuturesUnordered<BoxFuture<'static, Written>>,
    /// Bytes of the budget that the writes give back.
    leaving: u64,
    reads: FuturesUnordered<BoxFuture<'static, Arrived>>,
}

/// A request's inputs were written, or could not be.
struct Written {
    bytes: u64,
    outcome: Result<(), SpillError>,
}

/// A request's inputs are back, or lost.
struct Arrived {
    queue: usize,
    ticket: Ticket,
    inputs: Result<(Cargo, Parking), SpillError>,
}

impl Overflow {
    /// Opens the store, for messages of up to `max_message_bytes`. Blocks until each disk has proven to
    /// work. Returns `None` where the configuration names no folder.
    ///
    /// # Errors
    /// A folder or an engine cannot be used.
    pub fn open(
        config: &Config,
        max_message_bytes: u64,
        pool: Pool,
    ) -> Result<Option<Store>, OpenError> {
        if config.dirs.is_empty() {
            return Ok(None);
        }
        Store::open(config.store(max_message_bytes), pool).map(Some)
    }

    /// Joins a store, opened for messages of up to `max_message_bytes`, with the budget that it relieves
    /// and the queues whose requests it parks.
    pub fn new(
        store: Store,
        config: &Config,
        max_message_bytes: u64,
        budget: Budget,
        queues: Vec<Arc<Scheduler>>,
    ) -> Self {
        let signal = Arc::<Signal>::default();
        let floor_bytes = config.min_tensor.as_u64().max(1);
        let most_bytes = config.store(max_message_bytes).write_queue_bytes;
        for queue in &queues {
            queue.allow_parking(floor_bytes, most_bytes, Arc::clone(&signal));
        }
        let (high, low) = (config.high_percent, config.low_percent);
        let marks = Marks::new(budget.capacity(), high, low, queues.len());
        budget.watch(marks.high, marks.low, Arc::clone(&signal.moved));
        Self {
            store,
            budget,
            queues,
            marks,
            floor_bytes,
            signal,
        }
    }

    /// Returns where what is parked lies.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Parks and brings back until `end`, which is to come when the queues have ended. Returns the
    /// store, whose drop blocks. A panic fails all queues for good, and is told to `failed`.
    pub async fn run(self, end: CancellationToken, failed: watch::Sender<Option<String>>) -> Store {
        watched(self.work(&end), &self.queues, &failed).await;
        self.budget.makes_room(0);
        self.store
    }

    async fn work(&self, end: &CancellationToken) {
        let mut in_flight = InFlight::default();
        let mut pause = Pause::default();
        loop {
            self.bring_back(&mut in_flight);
            if pause.is_over()
                && let Err(error) = self.relieve(&mut in_flight)
            {
                pause.after(&error, !in_flight.writes.is_empty());
            }
            self.budget.makes_room(match pause.is_over() {
                true => self.room(),
                false => 0,
            });
            let InFlight {
                writes,
                leaving,
                reads,
            } = &mut in_flight;
            tokio::select! {
                () = end.cancelled() => return,
                () = self.signal.moved.notified() => {}
                Some(Written { bytes, outcome }) = writes.next() => {
                    *leaving -= bytes;
                    if let Err(error) = outcome && !matches!(error, SpillError::Withdrawn) {
                        pause.after(&error, false);
                    }
                }
                Some(arrived) = reads.next() => self.settle(arrived),
                () = pause.wait() => {}
            }
        }
    }

    /// Parks the requests that run last, until those in memory fit.
    ///
    /// # Errors
    /// The store takes no more.
    fn relieve(&self, in_flight: &mut InFlight) -> Result<(), SpillError> {
        while self
            .marks
            .must_park(self.budget.wanted(), in_flight.leaving)
        {
            let next = self.runs_last();
            let lifted =
                next.and_then(|(queue, ticket)| Some((queue, ticket, queue.lift(ticket)?)));
            let Some((queue, ticket, cargo)) = lifted else {
                self.signal.is_short.store(true, Ordering::Relaxed);
                return Ok(());
            };
            match cargo::park(&self.store, self.floor_bytes, cargo) {
                Ok(Accepted {
                    stowed,
                    bytes,
                    written,
                }) => {
                    queue.stow(ticket, stowed);
                    in_flight.leaving += bytes;
                    let written = written.map(move |outcome| Written { bytes, outcome });
                    in_flight.writes.push(written.boxed());
                }
                Err((error, cargo)) => {
                    queue.put(ticket, cargo, None);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Returns the bytes that the store has room for.
    fn room(&self) -> u64 {
        let stats = self.store.stats();
        stats.capacity_bytes.saturating_sub(stats.used_bytes)
    }

    /// Returns the request that runs last of all. A queue whose pace is not known has not moved yet.
    fn runs_last(&self) -> Option<(&Scheduler, Ticket)> {
        let horizon = self.marks.near;
        let last = |queue: &'_ Arc<Scheduler>| {
            let (ticket, wait) = queue.last_here(horizon)?;
            Some((wait.unwrap_or(Duration::MAX), ticket))
        };
        let queues = self.queues.iter();
        let candidates = queues.filter_map(|queue| Some((last(queue)?, queue)));
        let ((_, ticket), queue) = candidates.max_by_key(|((wait, _), _)| *wait)?;
        Some((queue, ticket))
    }

    /// Asks for what is needed next, and for more where memory has become free.
    fn bring_back(&self, in_flight: &mut InFlight) {
        for (index, queue) in self.queues.iter().enumerate() {
            // Whoever waits does so for the first of them.
            let mut class = match queue.is_stalled() {
                true => Class::Demand,
                false => Class::Prefetch,
            };
            for ticket in queue.first_away(self.marks.horizon(self.budget.used())) {
                let Some(stowed) = queue.fetch(ticket, Instant::now()) else {
                    continue;
                };
                let inputs = cargo::onboard(&self.store, &self.budget, class, stowed);
                class = Class::Prefetch;
                let arrived = inputs.map(move |inputs| Arrived {
                    queue: index,
                    ticket,
                    inputs,
                });
                in_flight.reads.push(arrived.boxed());
            }
        }
    }

    fn settle(&self, arrived: Arrived) {
        let Arrived {
            queue,
            ticket,
            inputs,
        } = arrived;
        let queue = &self.queues[queue];
        match inputs {
            Ok((cargo, parking)) => queue.put(ticket, cargo, Some(parking)),
            Err(error) => {
                tracing::error!(%error, "the tensors of a request are lost");
                queue.lose(ticket, Error::Spill(error));
            }
        }
    }
}
