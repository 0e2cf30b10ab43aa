//! What is to happen when the lock is released: wakers and drops run code of others.

use tokio::sync::oneshot;

use crate::{
    memory::Piece,
    store::{Answer, Outcome, entry::Memory},
};

/// What is to happen when the lock is released.
#[derive(Debug, Default)]
pub(in crate::store) struct After {
    pub(super) answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    pub(super) outcomes: Vec<(oneshot::Sender<Outcome>, Outcome)>,
    pub(super) dropped: Vec<Memory>,
    /// Of reads that failed.
    pub(super) pieces: Vec<Piece>,
    /// A tensor settled.
    settled: bool,
    /// Directories whose threads have something to do, a bit for each.
    rings: u64,
}

impl After {
    pub(super) fn ring(&mut self, dir: usize) {
        self.rings |= 1 << dir;
    }

    pub(super) fn tell_settled(&mut self) {
        self.settled = true;
    }

    pub(super) fn ring_all(&mut self) {
        self.rings = u64::MAX;
    }

    /// Returns whether all waiters of settled tensors are to look again.
    pub(in crate::store) fn settled(&self) -> bool {
        self.settled
    }

    /// Returns whether a directory's thread is to be woken.
    pub(in crate::store) fn rings(&self, dir: usize) -> bool {
        self.rings & (1 << dir) != 0
    }

    /// Frees memory, then answers whoever waits for that.
    pub(in crate::store) fn run(self) {
        drop((self.dropped, self.pieces));
        for (waiter, outcome) in self.outcomes {
            // A waiter that is gone needs no answer.
            let _ = waiter.send(outcome);
        }
        for (reader, answer) in self.answers {
            let _ = reader.send(answer);
        }
    }
}
