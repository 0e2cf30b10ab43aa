//! What a lease is made of: memory of one size class, pageable or page-locked, aligned alike.

use std::fmt;

use super::ALIGNMENT;

/// Page-locked memory, which is unlocked and freed when it is dropped.
pub trait Region: Send + Sync + fmt::Debug {
    /// Returns the memory, always the same.
    fn bytes(&self) -> &[u8];

    /// As [`bytes`](Self::bytes).
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// Where page-locked memory comes from.
pub trait Pinner: Send + Sync + fmt::Debug {
    /// Locks `size` bytes; `None` where the system gives no more.
    fn pin(&self, size: usize) -> Option<Box<dyn Region>>;

    /// Gives regions that were dropped back to the system, where they are kept for reuse.
    fn trim(&self);
}

/// `size` bytes that begin on an [`ALIGNMENT`] border inside a larger allocation.
pub(super) struct Slab {
    memory: Memory,
    start: usize,
    size: usize,
}

enum Memory {
    Pageable(Vec<u8>),
    Pinned(Box<dyn Region>),
}

impl Slab {
    pub(super) fn allocate(size: usize) -> Self {
        let memory = vec![0; size + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self {
            memory: Memory::Pageable(memory),
            start,
            size,
        }
    }

    /// Asks for exactly `size` first: page-locked memory comes in whole pages as a rule, and an
    /// allocator that rounds up to powers of two would take twice as much for a little more.
    pub(super) fn pin(pinner: &dyn Pinner, size: usize) -> Option<Self> {
        let mut region = pinner.pin(size)?;
        if region.bytes().as_ptr().align_offset(ALIGNMENT) != 0 {
            region = pinner.pin(size + ALIGNMENT)?;
        }
        let start = region.bytes().as_ptr().align_offset(ALIGNMENT);
        let fits = region
            .bytes()
            .get(start..)
            .is_some_and(|rest| rest.len() >= size);
        fits.then_some(Self {
            memory: Memory::Pinned(region),
            start,
            size,
        })
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn is_pinned(&self) -> bool {
        matches!(self.memory, Memory::Pinned(_))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        let memory = match &self.memory {
            Memory::Pageable(memory) => &memory[..],
            Memory::Pinned(region) => region.bytes(),
        };
        &memory[self.start..][..self.size]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let memory = match &mut self.memory {
            Memory::Pageable(memory) => &mut memory[..],
            Memory::Pinned(region) => region.bytes_mut(),
        };
        &mut memory[self.start..][..self.size]
    }
}

impl Default for Slab {
    fn default() -> Self {
        Self {
            memory: Memory::Pageable(Vec::new()),
            start: 0,
            size: 0,
        }
    }
}

impl fmt::Debug for Slab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab")
            .field("size", &self.size)
            .field("pinned", &self.is_pinned())
            .finish()
    }
}
