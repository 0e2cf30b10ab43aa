//! Keeps the bytes of requests within the host budget: what runs last goes to NVMe, and comes back
//! before it is needed.
//!
//! One task watches the budget and the queues. Above the high mark it parks outputs whose reader is
//! slow, or the request that runs last; what comes near the head of its queue it brings back. Outputs
//! come back when they are read. The store does the I/O on threads of its own, so nothing here blocks.
//!
//! Invariant: a request that is queued stays queued whatever becomes of its tensors: it runs with
//! them, or is answered with why they are lost.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use forebay_spill::{Class, Error as SpillError, OpenError, Store};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

mod config;
mod marks;
mod pause;
mod watched;

use crate::{
    admission::Budget,
    error::Error,
    memory::Pool,
    parking::{self, Accepted, Cargo, Leaving, Limits, Parking, Shelf, Signal},
    scheduler::{Scheduler, Ticket},
};
pub use config::Config;
use marks::Marks;
use pause::Pause;
use watched::watched;

/// Parks requests and unread outputs, and brings requests back.
#[derive(Debug)]
pub struct Overflow {
    store: Store,
    budget: Budget,
    queues: Vec<Arc<Scheduler>>,
    shelf: Arc<Shelf>,
    marks: Marks,
    limits: Limits,
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

/// The request that runs last.
struct Last<'a> {
    queue: &'a Scheduler,
    ticket: Ticket,
    /// How long it is until then.
    wait: Duration,
}

/// Tensors of a request were written, or could not be.
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

impl InFlight {
    /// Waits for `written`, which gives `bytes` of the budget back.
    fn leave(
        &mut self,
        bytes: u64,
        written: impl Future<Output = Result<(), SpillError>> + Send + 'static,
    ) {
        self.leaving += bytes;
        let written = written.map(move |outcome| Written { bytes, outcome });
        self.writes.push(written.boxed());
    }
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

    /// Joins a store with the budget that it relieves and the queues whose requests it parks.
    pub fn new(store: Store, config: &Config, budget: Budget, queues: Vec<Arc<Scheduler>>) -> Self {
        let signal = Arc::<Signal>::default();
        let limits = Limits::new(config.min_tensor.as_u64(), store.bounds());
        let (high, low) = (config.high_percent, config.low_percent);
        let marks = Marks::new(budget.capacity(), high, low, queues.len());
        for queue in &queues {
            queue.allow_parking(limits, marks.near, Arc::clone(&signal));
        }
        budget.watch(marks.high, marks.low, Arc::clone(&signal.moved));
        let shelf = Shelf::new(store.clone(), budget.clone(), limits, Arc::clone(&signal));
        Self {
            store,
            budget,
            queues,
            shelf: Arc::new(shelf),
            marks,
            limits,
            signal,
        }
    }

    /// Returns where what is parked lies.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns where outputs wait for their readers.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
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
            let mut ripe = None;
            if pause.is_over() {
                match self.relieve(&mut in_flight) {
                    Ok(next) => ripe = next,
                    Err(error) => pause.after(&error, !in_flight.writes.is_empty()),
                }
            }
            let wanted = self.budget.wanted();
            let is_stuck = ripe.is_none()
                && in_flight.leaving == 0
                && self.marks.must_park(wanted, in_flight.leaving);
            let room = match pause.makes_room() && !is_stuck {
                true => self.room(),
                false => 0,
            };
            self.budget.makes_room(room);
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
                    pause.wrote();
                    if let Err(error) = outcome && !matches!(error, SpillError::Withdrawn) {
                        pause.after(&error, false);
                    }
                }
                Some(arrived) = reads.next() => self.settle(arrived),
                () = pause.wait() => {}
                () = until(ripe) => {}
            }
        }
    }

    /// Parks what is needed last, until what is in memory fits: outputs that have waited for longer
    /// than the last request will, else that request. Returns when more outputs may go, if more must.
    ///
    /// # Errors
    /// The store takes no more.
    fn relieve(&self, in_flight: &mut InFlight) -> Result<Option<Instant>, SpillError> {
        let now = Instant::now();
        while self
            .marks
            .must_park(self.budget.wanted(), in_flight.leaving)
        {
            // Before it looks: what comes from here on is told of.
            self.signal.is_short.store(true, Ordering::Relaxed);
            let request = self.runs_last();
            // Who has not read for so long is taken to wait for as long again.
            let patience = request.as_ref().map_or(Duration::ZERO, |last| last.wait);
            if let Some(Leaving { bytes, written }) = self.shelf.park(now, patience)? {
                in_flight.leave(bytes, written);
                continue;
            }
            let Some(Last { queue, ticket, .. }) = request else {
                return Ok(self.shelf.ripens());
            };
            let Some(cargo) = queue.lift(ticket) else {
                // It has just been taken, to run.
                return Ok(self.shelf.ripens());
            };
            match parking::park(&self.store, &self.limits, cargo) {
                Ok(Accepted {
                    stowed,
                    bytes,
                    written,
                }) => {
                    queue.stow(ticket, stowed);
                    in_flight.leave(bytes, written);
                }
                Err((error, cargo)) => {
                    queue.put(ticket, cargo, None);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Returns the bytes that the store has room for.
    fn room(&self) -> u64 {
        let stats = self.store.stats();
        stats.capacity_bytes.saturating_sub(stats.used_bytes)
    }

    /// Returns the request that runs last of all. A queue whose pace is not known has not moved yet.
    fn runs_last(&self) -> Option<Last<'_>> {
        let horizon = self.marks.near;
        let queues = self.queues.iter();
        let candidates = queues.filter_map(|queue| {
            let (ticket, wait) = queue.last_here(horizon)?;
            let wait = wait.unwrap_or(Duration::MAX);
            Some(Last {
                queue,
                ticket,
                wait,
            })
        });
        candidates.max_by_key(|last| last.wait)
    }

    /// Asks for what is needed next, and for more where memory has become free.
    fn bring_back(&self, in_flight: &mut InFlight) {
        for (index, queue) in self.queues.iter().enumerate() {
            let class = match queue.is_stalled() {
                true => Class::Demand,
                false => Class::Prefetch,
            };
            for ticket in queue.first_away(self.marks.horizon(self.budget.used())) {
                let Some(stowed) = queue.fetch(ticket, Instant::now().into_std()) else {
                    continue;
                };
                let inputs = parking::onboard(&self.store, &self.budget, class, stowed);
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

/// Waits for an instant; for ever where there is none.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
