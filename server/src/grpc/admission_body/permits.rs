//! The permits of the messages of one call, in their order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::admission::Permit;

/// A message that was let in.
#[derive(Debug)]
pub struct Admitted {
    /// The bytes that it holds.
    pub permit: Permit,
    /// When its prefix came, and it began to wait for them.
    pub arrived: Instant,
}

/// Holds one permit for each message that is whole and not yet taken over. Clones share them.
///
/// A handler of `ModelInfer` or `ModelStreamInfer` finds it in the request's extensions and takes
/// one permit for each message that it decodes. What nobody takes is given back when the call ends.
#[derive(Debug, Clone, Default)]
pub struct MessagePermits {
    queue: Arc<Mutex<VecDeque<Admitted>>>,
}

impl MessagePermits {
    /// Returns the permit of the oldest message whose permit was not taken yet.
    pub fn take(&self) -> Option<Admitted> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    }

    pub(super) fn push(&self, message: Admitted) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(message);
    }
}
