//! Host memory for batches: page-aligned slabs, leased from a pool and returned on drop.
//!
//! Fresh memory costs a page fault for every 4 KiB, which dominates large messages; a slab that was
//! used before costs none. The pool keeps returned slabs by size class (powers of two) up to a
//! bound in bytes.
//!
//! Invariant: a [`HostBuf`] is exclusively its holder's; whoever hands it to a device or the kernel
//! hands it over by value.

use std::{
    collections::HashMap,
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Alignment of every slab in bytes: what O_DIRECT and page locking ask for.
pub const ALIGNMENT: usize = 4096;

/// Lends slabs and takes them back.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keep_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Idle slabs by size class.
    idle: HashMap<usize, Vec<Slab>>,
    idle_bytes: usize,
    leased_bytes: usize,
    fresh: u64,
}

/// What a pool holds and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of slabs that are leased out.
    pub leased_bytes: usize,
    /// Bytes of slabs that wait to be leased again.
    pub idle_bytes: usize,
    /// Slabs allocated so far, as opposed to reused.
    pub fresh: u64,
}

impl Pool {
    /// Makes a pool that keeps at most `keep_bytes` of idle slabs.
    pub fn new(keep_bytes: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                keep_bytes,
                state: Mutex::default(),
            }),
        }
    }

    /// Leases a buffer of `len` bytes, whose content is arbitrary.
    pub fn lease(&self, len: usize) -> HostBuf {
        let class = len.max(ALIGNMENT).next_power_of_two();
        let slab = {
            let mut state = self.shared.lock();
            state.leased_bytes += class;
            let reused = state.idle.get_mut(&class).and_then(Vec::pop);
            match &reused {
                Some(_) => state.idle_bytes -= class,
                None => state.fresh += 1,
            }
            reused
        };
        HostBuf {
            slab: slab.unwrap_or_else(|| Slab::allocate(class)),
            len,
            pool: Arc::downgrade(&self.shared),
        }
    }

    /// Returns what the pool holds now.
    pub fn usage(&self) -> Usage {
        let state = self.shared.lock();
        Usage {
            leased_bytes: state.leased_bytes,
            idle_bytes: state.idle_bytes,
            fresh: state.fresh,
        }
    }
}

impl Shared {
    /// The state stays whole when a holder of the lock panics: every update is a few additions.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_back(&self, slab: Slab) {
        let class = slab.size;
        let mut state = self.lock();
        state.leased_bytes -= class;
        if state.idle_bytes + class <= self.keep_bytes {
            state.idle_bytes += class;
            state.idle.entry(class).or_default().push(slab);
        }
    }
}

/// `size` bytes that begin on an [`ALIGNMENT`] border inside a larger allocation.
#[derive(Default)]
struct Slab {
    memory: Vec<u8>,
    start: usize,
    size: usize,
}

impl Slab {
    fn allocate(size: usize) -> Self {
        let memory = vec![0; size + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self {
            memory,
            start,
            size,
        }
    }
}

impl fmt::Debug for Slab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab").field("size", &self.size).finish()
    }
}

/// A leased buffer, aligned to [`ALIGNMENT`]. Dropping it returns its slab to the pool.
#[derive(Debug)]
pub struct HostBuf {
    slab: Slab,
    len: usize,
    pool: Weak<Shared>,
}

impl Deref for HostBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.slab.memory[self.slab.start..][..self.len]
    }
}

impl DerefMut for HostBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.slab.memory[self.slab.start..][..self.len]
    }
}

impl AsRef<[u8]> for HostBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for HostBuf {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.take_back(std::mem::take(&mut self.slab));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_aligned_and_reused() {
        let pool = Pool::new(1 << 20);
        for len in [0, 1, 4096, 5000, 100_000] {
            let mut buf = pool.lease(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.as_ptr().align_offset(ALIGNMENT), 0);
            buf.fill(1);
        }
        let fresh = pool.usage().fresh;
        drop(pool.lease(6000));
        let usage = pool.usage();
        assert_eq!((usage.fresh, usage.leased_bytes), (fresh, 0));
    }

    #[test]
    fn idle_slabs_stay_within_the_bound() {
        let pool = Pool::new(10_000);
        let leases: Vec<_> = (0..4).map(|_| pool.lease(4096)).collect();
        assert_eq!(pool.usage().leased_bytes, 4 * 4096);
        drop(leases);
        assert_eq!(pool.usage().idle_bytes, 2 * 4096);
    }
}
