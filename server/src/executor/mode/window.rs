//! The last few samples of a time, and their median. Pure.
//!
//! A median forgets a stall of the host that an average would remember for long, and the window
//! forgets what is no longer so.

use std::time::Duration;

/// Samples that are kept.
const KEPT: usize = 64;

/// Samples below which nothing is said.
pub(super) const ENOUGH: usize = 5;

/// A window over samples.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    samples: Vec<Duration>,
    next: usize,
}

impl Window {
    pub(super) fn add(&mut self, sample: Duration) {
        if self.samples.len() < KEPT {
            self.samples.push(sample);
        } else {
            self.samples[self.next] = sample;
            self.next = (self.next + 1) % KEPT;
        }
    }

    pub(super) fn clear(&mut self) {
        self.samples.clear();
        self.next = 0;
    }

    /// Returns the median, where there are samples enough.
    pub(super) fn median(&self) -> Option<Duration> {
        self.middle().filter(|_| self.len() >= ENOUGH)
    }

    /// Returns how many samples there are.
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Returns the median of however few samples, which says something only beside others.
    pub(super) fn middle(&self) -> Option<Duration> {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}
