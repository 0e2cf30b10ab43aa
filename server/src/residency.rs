//! Weights that leave memory while nobody uses them, and come back for the next request.
//!
//! A [`Lease`] goes with each request to a model that may leave, from before it is queued until it is
//! answered. It says that the model is in use, and has it brought in where its weights are out: the
//! request waits in the model's queue. [`Roster`] decides; one thread, `fb-residency`, does it.
//!
//! Invariant: while a model on the roster has leases, it is in memory, on its way, or in line.

use std::{
    fmt::Debug,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

mod roster;

pub use roster::{Id, Roster, Step, TooLarge};

/// Whether a model's weights may leave memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They never do.
    Pinned,
    /// They do where others need the room and no request uses them, the least recently used first.
    Lru,
}

/// A model whose weights may leave memory.
pub trait Resident: Send + Sync + Debug {
    /// Brings the weights in. Blocks.
    ///
    /// # Errors
    /// Why that cannot be done, for the requests that wait.
    fn come(&self) -> Result<(), String>;

    /// Finishes what runs and lets the weights go. What is queued stays. Blocks.
    fn leave(&self);

    /// Answers what is queued: the model cannot be brought in.
    fn refuse(&self, reason: &str);

    /// Returns whether it can never be brought in any more.
    fn is_lost(&self) -> bool;

    /// Returns whether it may be possible to bring it in, as far as a quick look shows.
    fn looks_well(&self) -> bool;
}

/// Who holds memory for weights, and the thread that sees to it.
#[derive(Debug)]
pub struct Residency {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    budget: Option<u64>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    roster: Roster,
    /// By their numbers on the roster.
    models: Vec<Weak<dyn Resident>>,
    /// Why each did not come the last time.
    reasons: Vec<String>,
    closed: bool,
    peak: u64,
}

/// What weights hold, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What they may hold, where that is bounded.
    pub budget: Option<u64>,
    /// What is in memory, or on its way.
    pub bytes: u64,
    /// The most that it was since the models were loaded.
    pub peak: u64,
}

impl Residency {
    /// Makes an empty one for `budget` bytes; see [`Roster::new`].
    pub fn new(budget: Option<u64>, turn: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                budget,
                state: Mutex::new(State {
                    roster: Roster::new(budget, turn),
                    models: Vec::new(),
                    reasons: Vec::new(),
                    closed: false,
                    peak: 0,
                }),
                changed: Condvar::new(),
            }),
            thread: Mutex::default(),
        }
    }

    /// Counts the weights of a model that never goes. Whoever may go makes room, on this thread.
    pub fn pin(&self, bytes: u64) {
        self.shared.lock().roster.pin(bytes);
        self.shared.settle();
    }

    /// Takes in a model whose weights are in memory. It goes again at once, on this thread, where
    /// there is no room.
    ///
    /// # Errors
    /// There never would be room.
    pub fn admit(&self, model: Weak<dyn Resident>, bytes: u64) -> Result<Member, TooLarge> {
        let id = {
            let mut state = self.shared.lock();
            let id = state.roster.admit(bytes, Instant::now())?;
            state.models.push(model);
            state.reasons.push(String::new());
            id
        };
        self.shared.settle();
        Ok(Member {
            shared: Arc::clone(&self.shared),
            id,
        })
    }

    /// Starts the thread, where a model may go. What was taken in before is in its place.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(&self) -> io::Result<()> {
        {
            let mut state = self.shared.lock();
            state.peak = state.roster.bytes();
            if state.models.is_empty() {
                return Ok(());
            }
        }
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name("fb-residency".to_owned())
            .spawn(move || shared.work())?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Returns what weights hold.
    pub fn usage(&self) -> Usage {
        let state = self.shared.lock();
        Usage {
            budget: self.shared.budget,
            bytes: state.roster.bytes(),
            peak: state.peak,
        }
    }

    /// Brings in whom requests still wait for, and ends the thread. Blocks until it has.
    pub fn close(&self) {
        self.shared.close();
        let thread = lock(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that brings models in panicked");
        }
    }
}

impl Drop for Residency {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    /// Does what is to be done until the residency is closed and nobody waits.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            state = match state.roster.step(Instant::now()) {
                Step::Wait(until) => {
                    if state.closed && !state.roster.is_awaited() {
                        return;
                    }
                    self.wait(state, until)
                }
                step => self.perform(step, state),
            };
        }
    }

    /// Does what can be done at once.
    fn settle(&self) {
        let mut state = self.lock();
        loop {
            state = match state.roster.step(Instant::now()) {
                Step::Wait(_) => return,
                step => self.perform(step, state),
            };
        }
    }

    /// Does a step, without the lock.
    fn perform<'a>(
        &'a self,
        step: Step,
        mut state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        let (Step::Evict(id) | Step::BringIn(id) | Step::Look(id)) = step else {
            return state;
        };
        state.peak = state.peak.max(state.roster.bytes());
        let model = state.models[id].upgrade();
        drop(state);
        let note: fn(&mut Roster, Id, Instant) = match (&model, step) {
            (Some(model), Step::BringIn(_)) if self.bring_in(id, &**model) => Roster::came,
            (Some(model), Step::Look(_)) if self.looks_well(id, &**model) => Roster::looks_well,
            (Some(model), Step::BringIn(_) | Step::Look(_)) if !model.is_lost() => Roster::failed,
            (Some(model), Step::Evict(_)) => {
                if catch_unwind(AssertUnwindSafe(|| model.leave())).is_err() {
                    tracing::error!(?model, "letting a model's weights go panicked");
                }
                Roster::left
            }
            _ => {
                self.lock().roster.give_up(Some(id));
                Roster::left
            }
        };
        let mut state = self.lock();
        note(&mut state.roster, id, Instant::now());
        if state.closed {
            state.roster.give_up(None);
        }
        state
    }

    /// Brings a model in. Returns whether that succeeded; else its requests are answered.
    fn bring_in(&self, id: Id, model: &dyn Resident) -> bool {
        let came = catch_unwind(AssertUnwindSafe(|| model.come()));
        let came = came.unwrap_or_else(|_| Err("loading it panicked; see the log".to_owned()));
        let Err(reason) = came else {
            return true;
        };
        model.refuse(&reason);
        self.lock().reasons[id] = reason;
        false
    }

    /// Returns whether a model that did not come might now; else its requests are answered as then.
    fn looks_well(&self, id: Id, model: &dyn Resident) -> bool {
        if model.looks_well() {
            return true;
        }
        let state = self.lock();
        let reason = state.roster.awaits(id).then(|| state.reasons[id].clone());
        drop(state);
        if let Some(reason) = reason {
            model.refuse(&reason);
        }
        false
    }

    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match until {
            None => self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let timeout = until.saturating_duration_since(Instant::now());
                let waited = self.changed.wait_timeout(state, timeout);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.roster.give_up(None);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A model's place on the roster.
#[derive(Debug)]
pub struct Member {
    shared: Arc<Shared>,
    id: Id,
}

impl Member {
    /// Returns whether the model can be tried now, if it did not come: there is room, or others may go for
    /// it. A request to it waits until then.
    pub fn may_be_tried(&self, now: Instant) -> bool {
        self.shared.lock().roster.may_be_tried(self.id, now)
    }

    /// Says that a request to the model is there, which must be queued after this.
    pub fn lease(&self) -> Lease {
        let mut state = self.shared.lock();
        state.roster.acquire(self.id, Instant::now());
        let is_out = state.roster.since(self.id).is_none();
        drop(state);
        if is_out {
            self.shared.changed.notify_one();
        }
        Lease {
            shared: Arc::clone(&self.shared),
            id: self.id,
        }
    }
}

/// A request to a model that may leave memory. Dropped once it is answered.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    id: Id,
}

impl Lease {
    /// Returns how long a request that was queued at `queued`, and runs from `now`, waited for the
    /// weights.
    pub fn waited(&self, queued: Instant, now: Instant) -> Duration {
        // They may serve before it is noted that they are there.
        self.shared.lock().roster.absence(self.id, queued, now)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let is_wanted = state.roster.release(self.id) && state.roster.is_wanted();
        let closes = state.closed;
        drop(state);
        if is_wanted || closes {
            self.shared.changed.notify_one();
        }
    }
}

/// No one else's code runs under these locks, so a panic elsewhere leaves what they guard whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
