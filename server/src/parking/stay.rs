//! How long tensors were on disk.

use std::time::{Duration, Instant};

/// How long a request's inputs were on disk, with the ways there and back: the last time.
#[derive(Debug, Clone, Copy)]
pub struct Parking {
    /// When they left memory.
    pub from: Instant,
    /// When they were asked back.
    pub fetched: Instant,
    /// When they were back.
    pub until: Instant,
    /// The times before, added up.
    pub earlier: Stays,
}

/// Times on disk, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stays {
    /// How long inputs were left there.
    pub parked: Duration,
    /// How long their ways back took.
    pub onboard: Duration,
}

impl Parking {
    /// Returns it with the times before, of which `last` was the last.
    #[must_use]
    pub fn after(mut self, last: Option<Self>) -> Self {
        self.earlier = last.map_or(self.earlier, |last| Stays {
            parked: last.parked(),
            onboard: last.onboard(),
        });
        self
    }

    /// Returns how long its inputs were left on disk, all times together.
    pub fn parked(&self) -> Duration {
        self.earlier.parked + self.fetched.saturating_duration_since(self.from)
    }

    /// Returns how long their ways back took, all times together.
    pub fn onboard(&self) -> Duration {
        self.earlier.onboard + self.until.saturating_duration_since(self.fetched)
    }
}
