//! What moves bytes between memory and the files of one disk.
//!
//! An engine is driven by one thread: operations are pushed, started together, and waited for. It
//! knows files, offsets and pieces, and nothing of tensors, extents or checksums.
//!
//! Invariant: an engine owns the memory and the file of an operation until it hands back its
//! [`Done`], and every operation that was pushed is handed back exactly once; if the kernel does not
//! give it back, as [`Broken`], and its memory is never freed.
//!
//! Dropping an engine waits for what is in flight; what has not started may then not be done.

use std::{fmt, fs::File, io, mem, sync::Arc, time::Duration};

use crate::memory::Piece;

#[cfg(target_os = "linux")]
pub mod choose;
pub mod fault;
mod psync;
#[cfg(target_os = "linux")]
mod uring;

/// Moves bytes between memory and the files of one disk.
pub trait Engine: Send + fmt::Debug {
    /// Returns its name, for logs and metrics: `io_uring`, `psync`.
    fn name(&self) -> &'static str;

    /// Returns how many operations may be in flight.
    fn depth(&self) -> usize;

    /// Makes buffers known to the kernel, once, before the first operation, and names them. Without
    /// the right to lock so much memory they stay what they are. Returns whether they are known.
    /// A piece that one engine knows is not for another.
    fn register(&mut self, buffers: &mut [Piece]) -> bool;

    /// Adds a file, which operations then name.
    ///
    /// # Errors
    /// The engine has no room for another file.
    fn add_file(&mut self, file: Arc<File>) -> io::Result<FileId>;

    /// Takes an operation; it starts with the next [`wait`](Self::wait) at the latest. The caller
    /// pushes no more than [`depth`](Self::depth) before they complete. One that cannot be started
    /// completes with its error.
    fn push(&mut self, op: Op);

    /// Starts what was pushed, without waiting for completions; what the kernel does not take starts with a
    /// later call. Where the kernel lacks the memory for it, it may sleep for a millisecond. An engine
    /// that starts all by itself, or only in [`wait`](Self::wait), has nothing to do.
    fn submit(&mut self) {}

    /// Starts what was pushed and sleeps until an operation completes, the alarm rings, or `timeout`
    /// passes. Adds all that has completed to `done`. It may end early with nothing.
    fn wait(&mut self, timeout: Option<Duration>, done: &mut Vec<Done>);

    /// Returns what ends a [`wait`](Self::wait) from another thread; one that rings while nobody
    /// waits ends the next wait at once.
    fn alarm(&self) -> Alarm;
}

/// Names a file of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId(pub u32);

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the file into the memory.
    Read,
    /// From the memory into the file.
    Write,
}

/// One transfer: all of `memory`, at `offset` of the file.
#[derive(Debug)]
pub struct Op {
    /// What the caller knows it by.
    pub id: u64,
    /// Which way the bytes go.
    pub direction: Direction,
    /// Where to or from.
    pub file: FileId,
    /// Where in the file, in bytes: a multiple of the alignment.
    pub offset: u64,
    /// The memory.
    pub memory: Piece,
    /// Bytes of the memory, at its begin, that are done already: a short transfer goes on behind
    /// them. A multiple of the alignment.
    pub skip: usize,
}

/// The most that the kernel moves in one transfer.
const MAX_TRANSFER_BYTES: usize = 0x7fff_f000;

impl Op {
    /// Returns where in the file the transfer begins and how long it is.
    ///
    /// An offset of all ones would mean the file's own position to the kernel, not an error.
    fn range(&self) -> io::Result<(u64, u32)> {
        let left = self.memory.len().checked_sub(self.skip);
        let bytes = left
            .filter(|bytes| *bytes <= MAX_TRANSFER_BYTES)
            .and_then(|bytes| u32::try_from(bytes).ok());
        let begin = u64::try_from(self.skip)
            .ok()
            .and_then(|skip| self.offset.checked_add(skip));
        bytes
            .zip(begin)
            .filter(|(bytes, begin)| *begin <= i64::MAX.unsigned_abs() - u64::from(*bytes))
            .map(|(bytes, begin)| (begin, bytes))
            .ok_or_else(|| {
                let (skip, len, offset) = (self.skip, self.memory.len(), self.offset);
                let text = format!("no transfer of {len} bytes less {skip} at offset {offset}");
                io::Error::new(io::ErrorKind::InvalidInput, text)
            })
    }

    /// Ends the operation although the kernel may be at it for ever. A write comes back with its
    /// memory, which the kernel only reads; a read with none.
    fn strand(mut self, why: Broken) -> Done {
        let kept = match self.direction {
            Direction::Read => 0,
            Direction::Write => self.memory.len(),
        };
        // A leak is harmless, memory that the kernel uses after its end is not.
        mem::forget(self.memory.split_off(kept));
        self.done(Err(why.into()))
    }

    /// Ends the operation.
    fn done(self, result: io::Result<usize>) -> Done {
        Done { op: self, result }
    }
}

fn no_such_file(file: FileId) -> io::Error {
    let text = format!("the engine has no file {}", file.0);
    io::Error::new(io::ErrorKind::NotFound, text)
}

fn too_deep(depth: usize) -> io::Error {
    let text = format!("{depth} operations are in flight already");
    io::Error::new(io::ErrorKind::QuotaExceeded, text)
}

/// A transfer that has ended.
#[derive(Debug)]
pub struct Done {
    /// The operation, with its memory.
    pub op: Op,
    /// How many bytes went, behind `skip`: fewer than asked for is a short transfer.
    pub result: io::Result<usize>,
}

/// The error of what an engine was given that can do nothing any more.
///
/// The memory of what was in flight then is never freed, and a read comes back without it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the engine broke down: {0}")]
pub struct Broken(pub String);

impl Broken {
    /// Returns whether an operation failed because its engine broke down.
    pub fn is(error: &io::Error) -> bool {
        let inner = error.get_ref();
        inner.is_some_and(|inner| inner.is::<Self>())
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        Self::other(broken)
    }
}

/// Ends a wait from another thread.
#[derive(Clone)]
pub struct Alarm(Arc<dyn Fn() + Send + Sync>);

impl Alarm {
    /// Makes an alarm of what rings it.
    pub fn new(ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(ring))
    }

    /// Ends the wait.
    pub fn ring(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarm")
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
