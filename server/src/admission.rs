//! Memory as a budget in bytes: what is admitted holds a [`Permit`] for as long as it lives.
//!
//! A message is admitted before its bytes are there, by the length that its prefix announces, and
//! the permit then travels with what is made of it. Replies are charged rather than reserved: the
//! request that caused them is already in, and holding it up would only keep its bytes longer.
//!
//! Invariant: a budget's `used` is the sum of its live permits.

mod config;
mod ledger;
mod permit;
mod reserve;

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{Notify, oneshot};

pub use config::Config;
pub use permit::Permit;
pub use reserve::Reserve;

use ledger::{Grant, Ledger};

/// A number of bytes that many share. Clones share one account.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

/// Why bytes were not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Waiting would not help.
    #[error(
        "{requested} bytes are more than the whole {budget} budget of {capacity} bytes; \
         send less at a time or raise the budget"
    )]
    TooLarge {
        /// Name of the budget.
        budget: &'static str,
        /// Bytes asked for.
        requested: u64,
        /// Bytes of the budget.
        capacity: u64,
    },
    /// Others hold the bytes for now.
    #[error(
        "{requested} bytes do not fit into the {budget} budget now \
         ({used} of {capacity} bytes are in use); try again later"
    )]
    Exhausted {
        /// Name of the budget.
        budget: &'static str,
        /// Bytes asked for.
        requested: u64,
        /// Bytes that others hold.
        used: u64,
        /// Bytes of the budget.
        capacity: u64,
    },
}

/// Why a message was refused before it was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Others hold the bytes.
    Memory,
    /// It is longer than any may be.
    Length,
    /// It did not come, or its call did not end behind it, in time.
    Progress,
}

/// How many messages were refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// For want of memory.
    pub memory: u64,
    /// For their length.
    pub length: u64,
    /// For coming too slowly.
    pub progress: u64,
}

/// A ledger whose waiters are sent their permits.
type Waiters = Ledger<oneshot::Sender<Permit>>;

#[derive(Debug)]
struct Shared {
    name: &'static str,
    ledger: Mutex<Waiters>,
    /// Told whenever `used` comes down to zero.
    empty: Notify,
    watch: OnceLock<Watch>,
    refused: Mutex<Refused>,
}

/// Who wants to know how much is in use.
#[derive(Debug)]
struct Watch {
    high: u64,
    low: u64,
    told: Arc<Notify>,
    /// Bytes that it can make free yet.
    room: AtomicU64,
}

impl Error {
    /// Returns how a message is counted that has no bytes for this reason.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::TooLarge { .. } => Refusal::Length,
            Self::Exhausted { .. } => Refusal::Memory,
        }
    }
}

impl Budget {
    /// Returns a budget of `capacity_bytes`. `name` stands in errors.
    pub fn new(name: &'static str, capacity_bytes: u64) -> Self {
        let ledger = Mutex::new(Ledger::new(capacity_bytes));
        let empty = Notify::new();
        Self {
            shared: Arc::new(Shared {
                name,
                ledger,
                empty,
                watch: OnceLock::new(),
                refused: Mutex::default(),
            }),
        }
    }

    /// Tells `told` when more than `high` bytes are in use or wanted, each time that more are, and when
    /// no more than `low` are. Call it once.
    pub fn watch(&self, high: u64, low: u64, told: Arc<Notify>) {
        // The first one is the one.
        let _known = self.shared.watch.set(Watch {
            high,
            low,
            told,
            room: AtomicU64::new(0),
        });
    }

    /// Notes how many bytes who [watches](Self::watch) can make free yet; 0, if it cannot now.
    pub fn makes_room(&self, bytes: u64) {
        if let Some(watch) = self.shared.watch.get() {
            watch.room.store(bytes, Ordering::Relaxed);
        }
    }

    /// Takes `bytes`, waiting in line for as long as they do not fit.
    ///
    /// The place in line is taken when this is called, not when the future is first polled.
    ///
    /// # Errors
    /// The future yields [`Error::TooLarge`] if they never can fit.
    ///
    /// # Cancel safety
    /// A dropped future leaves the line and takes nothing.
    pub fn reserve(&self, bytes: u64) -> Reserve {
        let mut ledger = self.lock();
        match self.take(&mut ledger, bytes) {
            Ok(permit) => Reserve::granted(permit),
            Err(Error::Exhausted { .. }) => self.enqueue(&mut ledger, bytes),
            Err(too_large) => Reserve::refused(too_large),
        }
    }

    /// Takes `bytes`, and waits in line only where [room is made](Self::makes_room) for all that are in
    /// line, and no more than the capacity is.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if they do not fit now and waiting is of no use, [`Error::TooLarge`] if they
    /// never can.
    pub fn reserve_if_room_is_made(&self, bytes: u64) -> Result<Reserve, Error> {
        let mut ledger = self.lock();
        let watch = self.shared.watch.get();
        let room = watch.map_or(0, |watch| watch.room.load(Ordering::Relaxed));
        let in_line = ledger.queued().saturating_add(bytes);
        let may_wait = room > 0 && in_line <= room.min(ledger.capacity());
        match self.take(&mut ledger, bytes) {
            Err(Error::Exhausted { .. }) if may_wait => Ok(self.enqueue(&mut ledger, bytes)),
            taken => taken.map(Reserve::granted),
        }
    }

    /// Takes `bytes` if they fit at once and nobody is in line for the budget.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if they do not fit now, [`Error::TooLarge`] if they never can.
    pub fn try_reserve(&self, bytes: u64) -> Result<Permit, Error> {
        self.take(&mut self.lock(), bytes)
    }

    fn take(&self, ledger: &mut Waiters, bytes: u64) -> Result<Permit, Error> {
        let (budget, capacity, requested) = (self.shared.name, ledger.capacity(), bytes);
        if bytes > capacity {
            return Err(Error::TooLarge {
                budget,
                requested,
                capacity,
            });
        }
        if ledger.try_reserve(bytes) {
            self.risen(ledger);
            return Ok(Permit::new(self.clone(), bytes));
        }
        self.tell_above(ledger.used().saturating_add(bytes));
        Err(Error::Exhausted {
            budget,
            requested,
            used: ledger.used(),
            capacity,
        })
    }

    fn enqueue(&self, ledger: &mut Waiters, bytes: u64) -> Reserve {
        let (granted, grant) = oneshot::channel();
        let ticket = ledger.enqueue(bytes, granted);
        self.risen(ledger);
        Reserve::waiting(self.clone(), ticket, grant)
    }

    /// Takes `bytes` even if that overdraws the budget; reservations then wait until the debt is
    /// paid.
    pub fn charge(&self, bytes: u64) -> Permit {
        let mut ledger = self.lock();
        ledger.charge(bytes);
        self.risen(&ledger);
        drop(ledger);
        Permit::new(self.clone(), bytes)
    }

    /// Returns whether the budget is used up twice over, as answers that are not read may do.
    pub fn is_overdrawn(&self) -> bool {
        let ledger = self.lock();
        ledger.used() > ledger.capacity().saturating_mul(2)
    }

    /// Returns the bytes that live permits hold.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Returns the bytes that live permits hold, and those that the first in line asks for.
    pub fn wanted(&self) -> u64 {
        self.lock().wanted()
    }

    /// Returns the bytes that reservations may hold together.
    pub fn capacity(&self) -> u64 {
        self.lock().capacity()
    }

    /// Returns how many reservations are in line.
    pub fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    /// Counts a message that was refused.
    pub fn count(&self, refusal: Refusal) {
        let mut refused = self.refusals();
        match refusal {
            Refusal::Memory => refused.memory += 1,
            Refusal::Length => refused.length += 1,
            Refusal::Progress => refused.progress += 1,
        }
    }

    /// Returns how many messages were refused so far.
    pub fn refused(&self) -> Refused {
        *self.refusals()
    }

    fn refusals(&self) -> MutexGuard<'_, Refused> {
        let refused = self.shared.refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no permit holds a byte.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn drained(&self) {
        loop {
            let empty = self.shared.empty.notified();
            if self.used() == 0 {
                return;
            }
            empty.await;
        }
    }

    fn release(&self, bytes: u64) {
        let mut ledger = self.lock();
        let before = ledger.used();
        let grants = ledger.release(bytes);
        let empty = ledger.used() == 0;
        self.fallen(before, &ledger);
        if !grants.is_empty() {
            self.risen(&ledger);
        }
        drop(ledger);
        if empty {
            self.shared.empty.notify_waiters();
        }
        self.hand_out(grants);
    }

    fn risen(&self, ledger: &Waiters) {
        self.tell_above(ledger.wanted());
    }

    fn tell_above(&self, wanted: u64) {
        if let Some(watch) = self.shared.watch.get()
            && wanted > watch.high
        {
            watch.told.notify_one();
        }
    }

    fn fallen(&self, before: u64, ledger: &Waiters) {
        if let Some(watch) = self.shared.watch.get()
            && before > watch.low
            && ledger.used() <= watch.low
        {
            watch.told.notify_one();
        }
    }

    /// Sends permits to those who waited. Call it without the lock: the permit of a waiter that has
    /// gone is dropped here, which takes the lock again.
    fn hand_out(&self, grants: Vec<Grant<oneshot::Sender<Permit>>>) {
        for Grant { waiter, bytes } in grants {
            let permit = Permit::new(self.clone(), bytes);
            drop(waiter.send(permit));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        // Nothing that holds the lock can panic half way through a change.
        self.shared
            .ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
