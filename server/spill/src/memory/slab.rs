//! What a lease is made of: memory of one size class, pageable or page-locked, aligned alike.

use std::fmt;

use memmap2::MmapMut;

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

/// Smaller slabs are of the heap: they leave no large holes, and the system has mappings for some ten
/// thousand only.
const LARGE: usize = 64 << 10;

/// Smaller mappings have no room for a huge page.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// Maps `size` bytes, and returns where in the mapping to begin, as an alignment.
fn map(size: usize) -> Option<(Memory, usize)> {
    #[cfg(target_os = "linux")]
    if size >= HUGE_PAGE {
        // What alignment leaves over is never touched, and so no memory.
        let mapping = MmapMut::map_anon(size + HUGE_PAGE).ok()?;
        // A disk takes it in fewer parts. Where there are no such pages, small ones do.
        let _unheard = mapping.advise(memmap2::Advice::HugePage);
        return Some((Memory::Mapped(mapping), HUGE_PAGE));
    }
    let mapping = MmapMut::map_anon(size).ok()?;
    Some((Memory::Mapped(mapping), ALIGNMENT))
}

/// `size` bytes that begin on an [`ALIGNMENT`] border inside a larger allocation.
pub(super) struct Slab {
    memory: Memory,
    start: usize,
    size: usize,
}

enum Memory {
    None,
    /// Its own mapping: what goes back, goes back to the system, and leaves no hole in a heap.
    Mapped(MmapMut),
    /// Small, or where the system maps no more.
    Heap(Vec<u8>),
    Pinned(Box<dyn Region>),
}

impl Slab {
    pub(super) fn allocate(size: usize) -> Self {
        let (memory, alignment) = match size {
            LARGE.. => map(size),
            _ => None,
        }
        .unwrap_or_else(|| (Memory::Heap(vec![0; size + ALIGNMENT]), ALIGNMENT));
        let mut slab = Self {
            memory,
            start: 0,
            size,
        };
        slab.start = slab.memory().as_ptr().align_offset(alignment);
        slab
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
        &self.memory()[self.start..][..self.size]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let memory = match &mut self.memory {
            Memory::None => &mut [],
            Memory::Mapped(mapping) => &mut mapping[..],
            Memory::Heap(memory) => &mut memory[..],
            Memory::Pinned(region) => region.bytes_mut(),
        };
        &mut memory[self.start..][..self.size]
    }

    fn memory(&self) -> &[u8] {
        match &self.memory {
            Memory::None => &[],
            Memory::Mapped(mapping) => mapping,
            Memory::Heap(memory) => memory,
            Memory::Pinned(region) => region.bytes(),
        }
    }
}

impl Default for Slab {
    fn default() -> Self {
        Self {
            memory: Memory::None,
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
