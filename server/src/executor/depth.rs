//! Counts the batches of an instance between the scheduler and their replies, and bounds them.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// A counter with an upper bound.
#[derive(Debug)]
pub(super) struct Depth {
    limit: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    peak: usize,
}

impl Depth {
    pub(super) fn new(limit: NonZeroUsize) -> Self {
        Self {
            limit: limit.get(),
            state: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// Waits for room for one more batch. The room is given back when the guard is dropped.
    pub(super) fn acquire(self: &Arc<Self>) -> Room {
        let mut state = self.lock();
        while state.in_flight >= self.limit {
            state = self
                .freed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.in_flight += 1;
        drop(state);
        Room(Arc::clone(self))
    }

    /// Notes that the room is used: a batch was formed for it.
    fn note_batch(&self) {
        let mut state = self.lock();
        state.peak = state.peak.max(state.in_flight);
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
}

/// Room for one batch in the pipeline.
#[derive(Debug)]
pub(super) struct Room(Arc<Depth>);

impl Room {
    /// Notes that a batch uses the room.
    pub(super) fn note_batch(&self) {
        self.0.note_batch();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
        self.0.freed.notify_one();
    }
}
