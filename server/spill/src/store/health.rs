//! Whether a directory is still in use.
//!
//! Invariant: a directory that went out of use stays out.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// How many incidents within [`WINDOW`] put a directory out of use.
const FAILURES: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);
/// What fails within this time of another failure is the same incident.
const INCIDENT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Health {
    failures: VecDeque<Instant>,
    out: Option<Arc<str>>,
}

impl Health {
    /// Notes a failure; returns whether it put the directory out of use.
    pub(super) fn failed(&mut self, now: Instant, why: &str) -> bool {
        if self.out.is_some() {
            return false;
        }
        let same = |at: &Instant| now.saturating_duration_since(*at) < INCIDENT;
        if self.failures.back().is_some_and(same) {
            return false;
        }
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|at| now - *at > WINDOW) {
            self.failures.pop_front();
        }
        if self.failures.len() >= FAILURES {
            self.out = Some(why.into());
        }
        self.out.is_some()
    }

    /// Puts the directory out of use at once; returns whether it was in use.
    pub(super) fn end(&mut self, why: &str) -> bool {
        self.out.is_none() && self.out.replace(why.into()).is_none()
    }

    /// Returns why it is out of use, if it is.
    pub(super) fn out(&self) -> Option<&Arc<str>> {
        self.out.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_at_once_is_one_incident() {
        let start = Instant::now();
        let mut health = Health::default();
        for millis in (0..2000).step_by(10) {
            let now = start + Duration::from_millis(millis);
            assert!(!health.failed(now, "io"), "{millis}");
        }
        assert!(health.failed(start + Duration::from_secs(2), "io"));
    }

    #[test]
    fn three_failures_within_a_minute_put_it_out_of_use_once() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut health = Health::default();
        for secs in [0, 1, 62, 63] {
            assert!(!health.failed(at(secs), "io"), "{secs}");
        }
        assert!(health.out().is_none());
        assert!(health.failed(at(64), "io"));
        assert!(!health.failed(at(65), "io"), "it is told once");
        assert_eq!(health.out().map(|why| &**why), Some("io"));
    }
}
