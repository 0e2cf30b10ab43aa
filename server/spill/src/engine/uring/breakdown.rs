//! A ring that is of no use any more: what the kernel has of it comes back, or is given up.
//!
//! Invariant: nothing more is submitted, and memory that the kernel may touch is leaked before its
//! operation is answered.

use std::time::{Duration, Instant};

use super::{Broken, Done, Uring};

/// How long the kernel gets to give back what it has.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is asked.
pub(super) const GLANCE: Duration = Duration::from_millis(10);
/// Has a call of `io_uring_enter` see to completions.
const GETEVENTS: u32 = 1;

#[derive(Debug)]
pub(super) struct Breakdown {
    pub(super) why: Broken,
    /// When what is in flight is given up.
    until: Instant,
    /// Whether something was.
    pub(super) stranded: bool,
}

impl Breakdown {
    pub(super) fn new(why: Broken, now: Instant) -> Self {
        Self {
            why,
            until: now + PATIENCE,
            stranded: false,
        }
    }
}

impl Uring {
    /// Adds to `done` what still comes back of a broken ring, and in the end what does not. Returns
    /// whether the bell rang.
    pub(super) fn salvage(&mut self, done: &mut Vec<Done>) -> bool {
        if self.broken.is_none() || self.table.is_empty() {
            return false;
        }
        self.look();
        let rang = self.reap(done);
        let Some(broken) = &mut self.broken else {
            return rang;
        };
        if Instant::now() >= broken.until {
            for op in self.table.drain() {
                broken.stranded = true;
                done.push(op.strand(broken.why.clone()));
            }
        }
        rang
    }

    /// Has the kernel tell what has completed. What is staged has been answered and must not go.
    #[expect(unsafe_code, reason = "no safe call enters without submitting")]
    fn look(&self) {
        // SAFETY: no entry is submitted, and there is no argument.
        let told = unsafe { self.ring.submitter().enter::<()>(0, 0, GETEVENTS, None) };
        if let Err(error) = told {
            tracing::debug!(%error, "a broken io_uring tells nothing");
        }
    }

    /// Returns how long to sleep at once of what is `left`.
    pub(super) fn nap(&self, left: Option<Duration>) -> Option<Duration> {
        match self.broken.is_some() && !self.table.is_empty() {
            true => Some(left.map_or(GLANCE, |left| left.min(GLANCE))),
            false => left,
        }
    }
}
