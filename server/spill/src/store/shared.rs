//! What the store's handles and its threads share.
//!
//! Invariant: what wakes or frees runs after the lock is released.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::{engine::Alarm, memory::Pool, seal::Sealer};

use super::core::Core;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pool: Pool,
    pub(super) sealer: Sealer,
    /// Wakes the thread of each directory.
    alarms: Vec<Alarm>,
    /// Tells that a tensor settled.
    pub(super) settled: Notify,
    core: Mutex<Core>,
}

impl Shared {
    pub(super) fn new(core: Core, pool: Pool, sealer: Sealer, alarms: Vec<Alarm>) -> Self {
        Self {
            pool,
            sealer,
            alarms,
            settled: Notify::new(),
            core: Mutex::new(core),
        }
    }

    /// Looks at or changes what the store knows, then does what follows from it.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Core) -> T) -> T {
        let (result, after) = {
            let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
            let result = look(&mut core);
            (result, std::mem::take(&mut core.after))
        };
        for (dir, alarm) in self.alarms.iter().enumerate() {
            if after.rings(dir) {
                alarm.ring();
            }
        }
        let settled = after.settled();
        after.run();
        if settled {
            self.settled.notify_waiters();
        }
        result
    }
}

/// Held by a thread as long as it runs: if it panics, nobody waits for it for ever.
pub(super) struct Running(pub(super) Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.with(Core::crash);
        }
    }
}
