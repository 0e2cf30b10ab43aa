//! The segments of one directory, as space.
//!
//! Invariant: an extent that went bad is never given out again.

use super::{Allocator, Extent};

/// Gives out extents of a directory's segments, from the lowest that has room.
#[derive(Debug)]
pub(crate) struct Space {
    dir: u16,
    segments: Vec<Allocator>,
    generation: u64,
    bad_bytes: u64,
}

impl Space {
    pub(crate) fn new(dir: u16) -> Self {
        Self {
            dir,
            segments: Vec::new(),
            generation: 0,
            bad_bytes: 0,
        }
    }

    pub(crate) fn add_segment(&mut self, bytes: u64) {
        self.segments.push(Allocator::new(bytes));
    }

    /// Returns how many segments there are.
    pub(crate) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Finds one run of `bytes`.
    pub(crate) fn allocate(&mut self, bytes: u64) -> Option<Extent> {
        let mut segments = (0..).zip(&mut self.segments);
        let (segment, offset) = segments.find_map(|(i, s)| Some((i, s.allocate(bytes)?)))?;
        Some(self.extent(segment, offset, bytes))
    }

    /// Finds `bytes` in as few runs as there are, longest first; none where they do not suffice.
    pub(crate) fn allocate_scattered(&mut self, bytes: u64) -> Option<Vec<Extent>> {
        if self.free_bytes() < bytes {
            return None;
        }
        let mut extents = Vec::new();
        let mut left = bytes;
        while left > 0 {
            let segments = (0_u32..).zip(&mut self.segments);
            let (segment, longest) = segments.max_by_key(|(_, s)| s.largest_free())?;
            let (offset, got) = longest.allocate_most(left)?;
            extents.push(self.extent(segment, offset, got));
            left -= got;
        }
        Some(extents)
    }

    pub(crate) fn free(&mut self, extent: &Extent) {
        if extent.bytes > 0 {
            self.segment(extent).free(extent.offset, extent.bytes);
        }
    }

    /// Never gives the extent out again.
    pub(crate) fn quarantine(&mut self, extent: &Extent) {
        self.bad_bytes += extent.bytes;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(Allocator::bytes).sum()
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.segments.iter().map(Allocator::free_bytes).sum()
    }

    pub(crate) fn bad_bytes(&self) -> u64 {
        self.bad_bytes
    }

    pub(crate) fn largest_free(&self) -> u64 {
        let runs = self.segments.iter().map(Allocator::largest_free);
        runs.max().unwrap_or(0)
    }

    fn extent(&mut self, segment: u32, offset: u64, bytes: u64) -> Extent {
        self.generation += 1;
        Extent {
            dir: self.dir,
            segment,
            offset,
            bytes,
            generation: self.generation,
        }
    }

    fn segment(&mut self, extent: &Extent) -> &mut Allocator {
        let index = extent.segment as usize;
        &mut self.segments[index]
    }
}
