//! Tells who parks that there is something to do.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// What queues, shelf and budget tell who parks.
#[derive(Debug, Default)]
pub struct Signal {
    /// Told when a queue has moved while requests of it are on disk, or there is something to park at
    /// last.
    pub moved: Arc<Notify>,
    /// Set before somebody looks for what to park, since memory is short.
    pub is_short: AtomicBool,
}

impl Signal {
    /// Tells that there is something to park, where somebody looked for it.
    pub fn parkable(&self) {
        if self.is_short.swap(false, Ordering::Relaxed) {
            self.moved.notify_one();
        }
    }
}
