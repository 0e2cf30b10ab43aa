//! One snapshot for all figures of a part that are due together.
//!
//! A collector asks for one figure after the other. The first that has read the snapshot at hand takes
//! the next one, and the others share it: so the figures of one export agree, and the part is asked once.
//!
//! Invariant: no figure reads a snapshot twice.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Takes snapshots `S` of a part.
pub(super) struct Snapshots<S> {
    take: Box<dyn Fn() -> S + Send + Sync>,
    latest: Mutex<Latest<S>>,
}

struct Latest<S> {
    snapshot: Option<Arc<S>>,
    /// How many were taken.
    number: u64,
}

/// What one figure reads snapshots with.
pub(super) struct Reader<S> {
    snapshots: Arc<Snapshots<S>>,
    /// The number of the one that it read last.
    read: AtomicU64,
}

impl<S> Snapshots<S> {
    /// Takes snapshots with `take`.
    pub(super) fn new(take: impl Fn() -> S + Send + Sync + 'static) -> Arc<Self> {
        let latest = Latest {
            snapshot: None,
            number: 0,
        };
        Arc::new(Self {
            take: Box::new(take),
            latest: Mutex::new(latest),
        })
    }

    /// Returns what a figure reads them with.
    pub(super) fn reader(self: &Arc<Self>) -> Reader<S> {
        Reader {
            snapshots: Arc::clone(self),
            read: AtomicU64::new(0),
        }
    }
}

impl<S> Reader<S> {
    /// Returns a snapshot that this figure has not read.
    pub(super) fn next(&self) -> Arc<S> {
        let Snapshots { take, latest } = &*self.snapshots;
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.read.load(Ordering::Relaxed) == latest.number;
        let snapshot = match latest.snapshot.take().filter(|_| !known) {
            Some(snapshot) => snapshot,
            None => {
                latest.number += 1;
                Arc::new(take())
            }
        };
        self.read.store(latest.number, Ordering::Relaxed);
        latest.snapshot = Some(Arc::clone(&snapshot));
        snapshot
    }
}

impl<S> fmt::Debug for Snapshots<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_are_due_together_share_one_snapshot() {
        let taken = AtomicU64::new(0);
        let snapshots = Snapshots::new(move || taken.fetch_add(1, Ordering::Relaxed));
        let figures: Vec<_> = (0..19).map(|_| snapshots.reader()).collect();
        for export in 0..3 {
            let read: Vec<u64> = figures.iter().map(|figure| *figure.next()).collect();
            assert_eq!(read, [export; 19]);
        }
    }

    #[test]
    fn a_figure_that_is_read_alone_is_not_stale() {
        let taken = AtomicU64::new(0);
        let snapshots = Snapshots::new(move || taken.fetch_add(1, Ordering::Relaxed));
        let (alone, other) = (snapshots.reader(), snapshots.reader());
        assert_eq!([0, 1].map(|_| *alone.next()), [0, 1]);
        assert_eq!((*other.next(), *other.next()), (1, 2));
    }
}
