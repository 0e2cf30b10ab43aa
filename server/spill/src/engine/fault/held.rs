//! A completion that is held back.

use std::time::{Duration, Instant};

use super::{Gate, Until};
use crate::engine::Done;

#[derive(Debug)]
pub(super) struct Held {
    done: Done,
    by: By,
}

#[derive(Debug)]
enum By {
    Others(usize),
    Gate(Gate),
    Time(Instant),
}

impl Held {
    pub(super) fn new(done: Done, until: Until, now: Instant) -> Self {
        let by = match until {
            Until::Completed(others) => By::Others(others),
            Until::Open(gate) => By::Gate(gate),
            Until::After(time) => By::Time(now + time),
        };
        Self { done, by }
    }

    /// Returns in what time it is due, where time is what it waits for.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        match self.by {
            By::Time(at) => Some(at.saturating_duration_since(now)),
            By::Others(_) | By::Gate(_) => None,
        }
    }

    /// Returns the completion if it is due, after `others` more have come back. `idle` says that no
    /// others are left.
    pub(super) fn release(self, others: usize, now: Instant, idle: bool) -> Result<Done, Self> {
        let Self { done, by } = self;
        let by = match by {
            By::Others(left) => By::Others(left.saturating_sub(others)),
            by => by,
        };
        let due = match &by {
            By::Others(left) => *left == 0 || idle,
            By::Gate(gate) => gate.is_open(),
            By::Time(at) => *at <= now,
        };
        if due {
            Ok(done)
        } else {
            Err(Self { done, by })
        }
    }
}
