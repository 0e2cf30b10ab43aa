//! Which blocks of one segment are free.
//!
//! Free runs are kept by offset, so that neighbours merge, and by size, so that the smallest run
//! that fits is found at once: every call is O(log runs).
//!
//! Invariant: the two indexes name the same runs; no run touches another or is empty.

use std::collections::{BTreeMap, BTreeSet};

use super::BLOCK;

/// Gives out runs of one segment and takes them back.
#[derive(Debug, Clone)]
pub struct Allocator {
    bytes: u64,
    free_bytes: u64,
    by_offset: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
}

impl Allocator {
    /// Makes an allocator of `bytes` bytes, all free.
    ///
    /// # Panics
    /// If `bytes` is not a positive multiple of [`BLOCK`].
    pub fn new(bytes: u64) -> Self {
        assert!(
            bytes > 0 && bytes.is_multiple_of(BLOCK),
            "a segment is a positive multiple of {BLOCK} bytes"
        );
        let mut allocator = Self {
            bytes,
            free_bytes: bytes,
            by_offset: BTreeMap::new(),
            by_size: BTreeSet::new(),
        };
        allocator.insert(0, bytes);
        allocator
    }

    /// Takes the smallest run that has `bytes` bytes, the lowest of its size, and returns its offset.
    ///
    /// # Panics
    /// If `bytes` is not a positive multiple of [`BLOCK`].
    pub fn allocate(&mut self, bytes: u64) -> Option<u64> {
        assert!(
            bytes > 0 && bytes.is_multiple_of(BLOCK),
            "an extent is a positive multiple of {BLOCK} bytes"
        );
        let &(run, offset) = self.by_size.range((bytes, 0)..).next()?;
        self.remove(offset, run);
        if run > bytes {
            self.insert(offset + bytes, run - bytes);
        }
        self.free_bytes -= bytes;
        Some(offset)
    }

    /// Takes the longest run, or its first `bytes` bytes, and returns its offset and length.
    pub fn allocate_most(&mut self, bytes: u64) -> Option<(u64, u64)> {
        let bytes = bytes.min(self.largest_free());
        (bytes > 0).then_some(())?;
        Some((self.allocate(bytes)?, bytes))
    }

    /// Takes a run back, whole or in parts.
    ///
    /// # Panics
    /// If part of it is free already: two tensors would get the same bytes.
    pub fn free(&mut self, offset: u64, bytes: u64) {
        assert!(
            offset.is_multiple_of(BLOCK) && bytes.is_multiple_of(BLOCK) && bytes > 0,
            "extents are multiples of {BLOCK} bytes"
        );
        let before = self.by_offset.range(..=offset).next_back();
        let before = before.map(|(at, run)| (*at, *run));
        let behind = self.by_offset.range(offset..).next();
        let behind = behind.map(|(at, run)| (*at, *run));
        assert!(
            before.is_none_or(|(at, run)| at + run <= offset)
                && behind.is_none_or(|(at, _)| offset + bytes <= at)
                && offset + bytes <= self.bytes,
            "an extent is freed once"
        );
        self.free_bytes += bytes;
        let (mut start, mut len) = (offset, bytes);
        if let Some((at, run)) = before.filter(|(at, run)| at + run == offset) {
            self.remove(at, run);
            (start, len) = (at, run + len);
        }
        if let Some((at, run)) = behind.filter(|(at, _)| offset + bytes == *at) {
            self.remove(at, run);
            len += run;
        }
        self.insert(start, len);
    }

    /// Returns how long the segment is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how many bytes are free.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// Returns the length of the longest free run.
    pub fn largest_free(&self) -> u64 {
        self.by_size.last().map_or(0, |(run, _)| *run)
    }

    fn insert(&mut self, offset: u64, run: u64) {
        self.by_offset.insert(offset, run);
        self.by_size.insert((run, offset));
    }

    fn remove(&mut self, offset: u64, run: u64) {
        self.by_offset.remove(&offset);
        self.by_size.remove(&(run, offset));
    }
}
