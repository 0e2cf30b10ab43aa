//! What a store has done and holds.
//!
//! Invariant: a snapshot is taken under one lock, so that its figures fit one another.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use crate::error::Error;

/// What a store has done and holds.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// What went to the disks.
    pub written: Traffic,
    /// What came back from them.
    pub read: Traffic,
    /// Tensors that wait to be written.
    pub queued_items: usize,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Tensors that wait to be read.
    pub queued_reads: usize,
    /// Operations that the disks are at.
    pub in_flight: usize,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Tensors that are parked.
    pub parked: usize,
    /// Bytes of them that stayed in memory, because no disk took them.
    pub kept_bytes: u64,
    /// Bytes that parked tensors take of the capacity.
    pub used_bytes: u64,
    /// The capacity in bytes.
    pub capacity_bytes: u64,
    /// Bytes of the longest free run of any directory.
    pub largest_free_bytes: u64,
    /// Bytes that will not be used again because the disk failed there.
    pub bad_bytes: u64,
    /// Operations that were started again.
    pub retries: u64,
    /// Operations that moved less than they were asked to.
    pub short_transfers: u64,
    /// Tensors that shared a write with others.
    pub coalesced: u64,
    /// Tensors that shared a read with others.
    pub merged_reads: u64,
    /// Tensors that came back from memory before they were written.
    pub from_memory: u64,
    /// Errors by kind.
    pub errors: Errors,
    /// Each directory.
    pub dirs: Vec<DirStats>,
}

/// What went one way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes, with those that fill the last 4 KiB.
    pub bytes: u64,
    /// Operations.
    pub operations: u64,
    /// How long each took.
    pub latency: Histogram,
}

impl Traffic {
    pub(crate) fn record(&mut self, bytes: u64, took: Duration) {
        self.bytes += bytes;
        self.operations += 1;
        self.latency.record(took);
    }
}

/// How often what went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Errors {
    /// Beyond the store's capacity.
    pub quota: u64,
    /// Beyond the file system's.
    pub full: u64,
    /// Beyond what one call may ask for.
    pub too_large: u64,
    /// Beyond the write queue's bounds.
    pub queue_full: u64,
    /// Reported by a disk.
    pub io: u64,
    /// Damaged on a disk.
    pub corrupt: u64,
    /// With no disk in use.
    pub disabled: u64,
}

impl Errors {
    pub(crate) fn count(&mut self, error: &Error) {
        let counter = match error.kind() {
            "quota" => &mut self.quota,
            "full" => &mut self.full,
            "too_large" => &mut self.too_large,
            "queue_full" => &mut self.queue_full,
            "io" => &mut self.io,
            "corrupt" => &mut self.corrupt,
            "disabled" => &mut self.disabled,
            _ => return,
        };
        *counter += 1;
    }
}

/// One directory.
#[derive(Debug, Clone)]
pub struct DirStats {
    /// Where it is.
    pub path: Arc<Path>,
    /// What does its I/O.
    pub engine: &'static str,
    /// Whether the kernel knows the store's own buffers.
    pub registered: bool,
    /// Bytes of its segments.
    pub segment_bytes: u64,
    /// Why it is out of use, if it is.
    pub out_of_use: Option<Arc<str>>,
}

const BUCKETS: usize = 32;

/// How many operations took how long, in powers of two of a microsecond.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    sum_us: u64,
}

impl Histogram {
    /// Adds one.
    pub fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - us.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Returns for each bucket the microseconds that it stays below, and how many are in it. The last
    /// has the rest.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let below = (0..).map(|bit| 1_u64 << bit);
        below.zip(self.buckets.iter().copied())
    }

    /// Returns how many were added.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the sum of all in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// Returns the microseconds below which `share` of all lie, to the next power of two.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let mut left = share * self.count() as f64;
        for (below, count) in self.buckets() {
            left -= count as f64;
            if left <= 0.0 {
                return below;
            }
        }
        1 << BUCKETS
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.buckets().filter(|(_, count)| *count > 0);
        f.debug_map().entries(filled).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_powers_of_two() {
        let mut histogram = Histogram::default();
        for us in [0, 1, 3, 1000, 1 << 40] {
            histogram.record(Duration::from_micros(us));
        }
        let filled: Vec<_> = histogram.buckets().filter(|(_, n)| *n > 0).collect();
        assert_eq!(filled, [(1, 1), (2, 1), (4, 1), (1024, 1), (1 << 31, 1)]);
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.quantile_us(0.5), 4);
    }
}
