//! A tensor that is parked.

use std::{fmt, future::Future, sync::Arc};

use crate::error::Error;

use super::shared::Shared;

/// A tensor that the store has: on a disk, or on its way there.
///
/// Dropping it gives its place back, as soon as no operation in flight touches it.
pub struct Parked {
    shared: Arc<Shared>,
    id: u64,
    len: usize,
}

impl Parked {
    pub(super) fn new(shared: Arc<Shared>, id: u64, len: usize) -> Self {
        Self { shared, id, len }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Returns whether it is of this store.
    pub(super) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// Returns how many bytes it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Waits until it is written and its memory is released.
    ///
    /// # Errors
    /// It could not be written. Then it stays in memory, from where it comes back all the same.
    /// [`Error::Withdrawn`] if it was taken back or dropped first.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub fn settled(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let outcome = self.shared.with(|core| core.watch(self.id));
        async move { outcome.await.unwrap_or(Err(Error::Closed)) }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.shared.with(|core| core.abandon(self.id));
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked")
            .field("id", &self.id)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
