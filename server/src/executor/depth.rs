//! Counts the batches of an instance between the scheduler and their replies.
//!
//! There are no more than there are threads, so nobody waits for room. Who tries a batch again may
//! have the device to itself, as far as this instance goes: it waits for those that run, and no other
//! begins.
//!
//! Invariant: a batch that runs is answered, or set aside, without waiting for one that is set aside.

use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Depth {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    peak: usize,
    /// Those that may hold memory of the device.
    running: usize,
    /// Whether none may begin.
    closed: bool,
    /// Threads that wait for a change: without any, telling of it would be a system call for nothing.
    waiting: usize,
}

impl Depth {
    /// Counts one more batch, until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Room {
        self.lock().in_flight += 1;
        Room {
            depth: Arc::clone(self),
            runs: AtomicBool::new(false),
        }
    }

    /// Waits until no batch runs, and lets none begin until the guard is dropped. By one thread at a
    /// time, whose own batch is set aside.
    pub(super) fn alone(&self) -> Alone<'_> {
        let mut state = self.lock();
        state.closed = true;
        while state.running > 0 {
            state = self.wait(state);
        }
        Alone(self)
    }

    /// Returns how many batches are in flight, or have room kept for them.
    pub(super) fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// Returns the most batches that were in flight at a time.
    pub(super) fn peak(&self) -> usize {
        self.lock().peak
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiting += 1;
        let waited = self.changed.wait(state);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Changes the state, and tells who waits for that.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let waited_for = state.waiting > 0;
        drop(state);
        if waited_for {
            self.changed.notify_all();
        }
    }
}

/// No other batch runs.
#[derive(Debug)]
pub(super) struct Alone<'a>(&'a Depth);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.closed = false);
    }
}

/// Room for one batch in the pipeline.
#[derive(Debug)]
pub(super) struct Room {
    depth: Arc<Depth>,
    /// Whether it counts as running.
    runs: AtomicBool,
}

impl Room {
    /// Notes that a batch was formed for the room, once it may begin.
    pub(super) fn begin(&self) {
        let mut state = self.depth.lock();
        while state.closed {
            state = self.depth.wait(state);
        }
        state.peak = state.peak.max(state.in_flight);
        state.running += 1;
        self.runs.store(true, Ordering::Relaxed);
    }

    /// Notes that the batch has no memory of the device any more.
    pub(super) fn set_aside(&self) {
        if self.runs.swap(false, Ordering::Relaxed) {
            self.depth.change(|state| state.running -= 1);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.set_aside();
        self.depth.lock().in_flight -= 1;
    }
}
