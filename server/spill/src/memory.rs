//! Host memory for batches: page-aligned slabs, leased from a pool and returned on drop.
//!
//! Fresh memory costs a page fault for every 4 KiB, and page-locked memory far more; a slab that was
//! used before costs neither. The pool keeps returned slabs by size class: pageable ones up to a bound
//! in bytes, page-locked ones all, because a budget bounds how many there are.
//!
//! Invariant: a [`HostBuf`] is exclusively its holder's; whoever hands it to a device or the kernel
//! hands it over by value.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

mod piece;
mod slab;

pub use piece::Piece;
use slab::Slab;
pub use slab::{Pinner, Region};

/// Alignment of every slab in bytes: what O_DIRECT and page locking ask for.
pub const ALIGNMENT: usize = 4096;

/// Lends slabs and takes them back.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kind: Kind,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Kind {
    Pageable {
        keep_bytes: usize,
        most_bytes: usize,
    },
    Pinned {
        pinner: Box<dyn Pinner>,
        budget: usize,
    },
}

#[derive(Debug, Default)]
struct State {
    /// Idle slabs by size class.
    idle: HashMap<usize, Vec<Slab>>,
    idle_bytes: usize,
    leased_bytes: usize,
    pinned_bytes: usize,
    fresh: u64,
    pinned: u64,
}

/// What a pool holds and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of slabs that are leased out.
    pub leased_bytes: usize,
    /// Bytes of slabs that wait to be leased again.
    pub idle_bytes: usize,
    /// Bytes of page-locked slabs, leased and idle.
    pub pinned_bytes: usize,
    /// Slabs allocated so far, as opposed to reused.
    pub fresh: u64,
    /// How many of them were page-locked.
    pub pinned: u64,
}

impl Pool {
    /// Makes a pool of pageable slabs that keeps at most `keep_bytes` of idle ones.
    pub fn new(keep_bytes: usize) -> Self {
        Self::within(keep_bytes, usize::MAX)
    }

    /// Makes a pool of pageable slabs that keeps at most `keep_bytes` of idle ones, and fewer where
    /// they and what is leased out would be more than `most_bytes`.
    pub fn within(keep_bytes: usize, most_bytes: usize) -> Self {
        Self::of(Kind::Pageable {
            keep_bytes,
            most_bytes,
        })
    }

    /// Makes a pool of slabs that `pinner` locks, at most `budget` bytes of them. What goes beyond
    /// is pageable, which a device copies more slowly, and is not kept.
    pub fn pinned(pinner: Box<dyn Pinner>, budget: usize) -> Self {
        Self::of(Kind::Pinned { pinner, budget })
    }

    fn of(kind: Kind) -> Self {
        let state = Mutex::default();
        Self {
            shared: Arc::new(Shared { kind, state }),
        }
    }

    /// Leases a buffer of `len` bytes, whose content is arbitrary.
    pub fn lease(&self, len: usize) -> HostBuf {
        let class = self.shared.class(len);
        let (reused, evicted) = {
            let mut state = self.shared.lock();
            state.leased_bytes += class;
            let reused = state.idle.get_mut(&class).and_then(Vec::pop);
            let mut evicted = Vec::new();
            match &reused {
                Some(_) => state.idle_bytes -= class,
                None => {
                    state.fresh += 1;
                    if let Kind::Pageable { most_bytes, .. } = self.shared.kind {
                        evicted = state.evict(most_bytes);
                    }
                }
            }
            (reused, evicted)
        };
        // Outside of the lock: it gives memory back to the system.
        drop(evicted);
        HostBuf {
            slab: reused.unwrap_or_else(|| self.shared.allocate(class)),
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
            pinned_bytes: state.pinned_bytes,
            fresh: state.fresh,
            pinned: state.pinned,
        }
    }
}

impl Shared {
    /// The state stays whole when a holder of the lock panics: every update is a few additions.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the size of the slab for `len` bytes.
    fn class(&self, len: usize) -> usize {
        match self.kind {
            Kind::Pageable { .. } => class(len),
            // What locks memory rounds up to powers of two, so that the rest is ours too, and counts.
            Kind::Pinned { .. } => len.max(ALIGNMENT).next_power_of_two(),
        }
    }

    fn allocate(&self, class: usize) -> Slab {
        match &self.kind {
            Kind::Pageable { .. } => None,
            Kind::Pinned { pinner, budget } => self.pin(&**pinner, *budget, class),
        }
        .unwrap_or_else(|| Slab::allocate(class))
    }

    /// Locks a slab within the budget, for which idle ones of other classes go. Locking takes long,
    /// so it is done outside of the lock, for bytes that were reserved under it.
    fn pin(&self, pinner: &dyn Pinner, budget: usize, class: usize) -> Option<Slab> {
        let evicted = self.lock().reserve(class, budget)?;
        if !evicted.is_empty() {
            drop(evicted);
            pinner.trim();
        }
        let slab = Slab::pin(pinner, class);
        let mut state = self.lock();
        match slab {
            Some(_) => state.pinned += 1,
            None => state.pinned_bytes -= class,
        }
        slab
    }

    fn take_back(&self, slab: Slab) {
        let class = slab.size();
        let mut state = self.lock();
        state.leased_bytes -= class;
        let keep = match self.kind {
            Kind::Pageable {
                keep_bytes,
                most_bytes,
            } => {
                let idle = state.idle_bytes + class;
                idle <= keep_bytes && state.leased_bytes + idle <= most_bytes
            }
            Kind::Pinned { .. } => slab.is_pinned(),
        };
        if keep {
            state.idle_bytes += class;
            state.idle.entry(class).or_default().push(slab);
        }
    }
}

impl State {
    /// Reserves `class` bytes of page-locked memory. Returns the idle slabs that must go for them, or
    /// `None` where there is no room even without them.
    fn reserve(&mut self, class: usize, budget: usize) -> Option<Vec<Slab>> {
        let leased = self.pinned_bytes - self.idle_bytes;
        if leased.checked_add(class)? > budget {
            return None;
        }
        let mut evicted = Vec::new();
        while self.pinned_bytes + class > budget {
            let slab = self.largest_idle()?;
            self.pinned_bytes -= slab.size();
            evicted.push(slab);
        }
        self.pinned_bytes += class;
        Some(evicted)
    }

    /// Returns the idle slabs that must go for leased and idle ones to be at most `most_bytes`.
    fn evict(&mut self, most_bytes: usize) -> Vec<Slab> {
        let mut evicted = Vec::new();
        while let excess @ 1.. = (self.leased_bytes + self.idle_bytes).saturating_sub(most_bytes) {
            let enough = self
                .idle
                .iter()
                .filter(|(class, slabs)| **class >= excess && !slabs.is_empty());
            let enough = enough.map(|(class, _)| *class).min();
            let slab = match enough {
                Some(class) => self.take_idle(class),
                None => self.largest_idle(),
            };
            let Some(slab) = slab else {
                break;
            };
            evicted.push(slab);
        }
        evicted
    }

    fn take_idle(&mut self, class: usize) -> Option<Slab> {
        let slab = self.idle.get_mut(&class)?.pop()?;
        self.idle_bytes -= class;
        Some(slab)
    }

    fn largest_idle(&mut self) -> Option<Slab> {
        let size = |slabs: &&mut Vec<Slab>| slabs.last().map_or(0, Slab::size);
        let slab = self.idle.values_mut().max_by_key(size)?.pop()?;
        self.idle_bytes -= slab.size();
        Some(slab)
    }
}

/// Returns the size of the pageable slab for `len` bytes: whole pages, in steps of a quarter of a power of two,
/// so that slabs are of few sizes and no more than a quarter or a page too large.
fn class(len: usize) -> usize {
    let power = len.max(ALIGNMENT).next_power_of_two();
    let step = (power / 8).max(ALIGNMENT);
    len.max(ALIGNMENT).next_multiple_of(step)
}

/// A leased buffer, aligned to [`ALIGNMENT`]. Dropping it returns its slab to the pool.
#[derive(Debug)]
pub struct HostBuf {
    slab: Slab,
    len: usize,
    pool: Weak<Shared>,
}

impl HostBuf {
    /// Returns whether the memory is page-locked.
    pub fn is_pinned(&self) -> bool {
        self.slab.is_pinned()
    }
}

impl Deref for HostBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.slab.bytes()[..self.len]
    }
}

impl DerefMut for HostBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.slab.bytes_mut()[..self.len]
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
mod tests;
