//! Where bytes lie: runs of 4 KiB blocks in the segments of one directory.
//!
//! Extents are found in memory alone: nothing of them is on the disk.
//!
//! Invariant: no two extents that are in use share a byte, and each is given out with a generation
//! that no extent had before.

mod allocator;
mod space;

pub use allocator::Allocator;
pub(crate) use space::Space;

/// What extents begin on and are multiples of, in bytes.
pub const BLOCK: u64 = 4096;

/// A run of blocks of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Which directory.
    pub dir: u16,
    /// Which segment of the directory.
    pub segment: u32,
    /// Where it begins in the segment, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// Tells it from whatever was or will be at the same place.
    pub generation: u64,
}

impl Extent {
    /// Cuts `bytes` off its begin.
    pub(crate) fn carve(&mut self, bytes: u64) -> Extent {
        debug_assert!(bytes <= self.bytes && bytes.is_multiple_of(BLOCK));
        let head = Extent { bytes, ..*self };
        self.offset += bytes;
        self.bytes -= bytes;
        head
    }

    /// Returns whether `next` begins where this one ends.
    pub(crate) fn touches(&self, next: &Extent) -> bool {
        (self.dir, self.segment, self.offset + self.bytes) == (next.dir, next.segment, next.offset)
    }
}

/// Returns how many bytes of extents a tensor of `len` bytes takes.
pub(crate) fn padded(len: usize) -> usize {
    len.next_multiple_of(crate::memory::ALIGNMENT)
}

#[cfg(test)]
mod tests;
