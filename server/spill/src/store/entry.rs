//! A tensor that the store holds, and its parts on their ways.
//!
//! Invariant: a tensor's memory is whole, counting what is in flight, until the last of its blocks is
//! on a disk; so whatever fails before costs nothing.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    error::Error,
    extent::{Extent, padded},
    memory::{HostBuf, Piece},
    seal::Seal,
};

use super::{Data, Outcome};

/// What one operation moves at most, and what one seal covers.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// What goes to one directory before the next has its turn.
pub(super) const CHUNK_BYTES: usize = 8 << 20;
/// Tensors of up to this many bytes share writes and reads.
pub(super) const SMALL_BYTES: usize = 256 << 10;

/// A tensor.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) len: usize,
    /// Whose thread answers for it as long as it is in memory.
    pub(super) home: usize,
    pub(super) memory: Memory,
    /// What is on the disks, by where it begins in the tensor.
    pub(super) blocks: BTreeMap<usize, Block>,
    /// What it takes of the capacity.
    pub(super) charge: usize,
    /// Bytes, padded, that are not on a disk.
    pub(super) unwritten: usize,
    /// Parts of it in the write queues.
    pub(super) queued: usize,
    /// Parts of its memory that are elsewhere.
    pub(super) flying: usize,
    /// Blocks that are being read.
    pub(super) reading: usize,
    /// Reads for which no further part may fly.
    pub(super) holds: usize,
    /// Those of them that wait for what flies.
    pub(super) waiting: Vec<u64>,
    /// Parts that wait for the holds to end.
    pub(super) deferred: Vec<Part>,
    pub(super) failed: Option<Error>,
    pub(super) outcome: Option<Outcome>,
    pub(super) watchers: Vec<oneshot::Sender<Outcome>>,
    /// Nobody wants it any more.
    pub(super) gone: bool,
}

impl Entry {
    pub(super) fn new(data: Data, home: usize) -> Self {
        let len = data.len();
        Self {
            len,
            home,
            memory: Memory::new(data),
            blocks: BTreeMap::new(),
            charge: padded(len),
            unwritten: padded(len),
            queued: 0,
            flying: 0,
            reading: 0,
            holds: 0,
            waiting: Vec::new(),
            deferred: Vec::new(),
            failed: None,
            outcome: (len == 0).then_some(Ok(())),
            watchers: Vec::new(),
            gone: false,
        }
    }

    /// Returns whether what of it is queued still goes to a disk.
    pub(super) fn is_to_be_written(&self) -> bool {
        !self.gone && self.failed.is_none()
    }

    /// Returns whose thread reads it from the disks: that of the one where it begins, so that
    /// neighbours meet in one queue.
    pub(super) fn reader(&self) -> usize {
        let first = self.blocks.values().next();
        first.map_or(self.home, |block| usize::from(block.extent.dir))
    }
}

/// What of a tensor is in memory.
#[derive(Debug)]
pub(super) enum Memory {
    /// Nothing: it is on the disks.
    None,
    /// All of it but what flies, by where it begins.
    Pieces(BTreeMap<usize, Piece>),
    Bytes(Bytes),
}

impl Memory {
    fn new(data: Data) -> Self {
        match data {
            data if data.is_empty() => Self::None,
            Data::Buf(buffer) => {
                let chunks = buffer.into_pieces(CHUNK_BYTES);
                Self::Pieces((0..).step_by(CHUNK_BYTES).zip(chunks).collect())
            }
            Data::Bytes(bytes) => Self::Bytes(bytes),
        }
    }

    /// Takes what a write of `bytes` bytes at `start` needs, of which `len` are the tensor's.
    pub(super) fn lend(&mut self, start: usize, bytes: usize, len: usize) -> Source {
        match self {
            Self::Pieces(pieces) => {
                let mut piece = pieces.remove(&start).expect("a queued part is in memory");
                if piece.len() > bytes {
                    pieces.insert(start + bytes, piece.split_off(bytes));
                }
                Source::Piece(piece)
            }
            Self::Bytes(all) => Source::Bytes(all.slice(start..start + len)),
            Self::None => unreachable!("a queued part is in memory"),
        }
    }

    /// Takes back what was lent.
    pub(super) fn give_back(&mut self, start: usize, source: Source) {
        if let (Self::Pieces(pieces), Source::Piece(piece)) = (self, source) {
            pieces.insert(start, piece);
        }
    }

    /// Makes the buffer whole again of which these are all pieces; not if a broken engine keeps it.
    pub(super) fn join(pieces: BTreeMap<usize, Piece>) -> Result<HostBuf, BTreeMap<usize, Piece>> {
        let starts: Vec<usize> = pieces.keys().copied().collect();
        let joined = Piece::join(pieces.into_values().collect());
        joined.map_err(|pieces| starts.into_iter().zip(pieces).collect())
    }
}

/// What a write reads from.
#[derive(Debug)]
pub(super) enum Source {
    Piece(Piece),
    Bytes(Bytes),
    /// The piece is with the engine.
    Flying,
}

/// A part of a tensor on a disk: at most [`PIECE_BYTES`], one extent, one seal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) extent: Extent,
    pub(super) seal: Seal,
    /// It came back damaged.
    pub(super) bad: bool,
}

/// A part of a tensor that waits to be written.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) entry: u64,
    pub(super) dir: usize,
    pub(super) start: usize,
    pub(super) len: usize,
    /// Extents that are its own already.
    pub(super) run: VecDeque<Extent>,
    pub(super) failures: Failures,
}

impl Part {
    pub(super) fn is_small(&self) -> bool {
        self.len <= SMALL_BYTES && self.run.is_empty()
    }
}

/// Where a part could not be written.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// How often in the directory where it is now.
    pub(super) here: u32,
    /// A bit for each directory that did not take it.
    pub(super) tried: u64,
    pub(super) last: Option<Error>,
}

/// A block that is being written.
#[derive(Debug)]
pub(super) struct WritePart {
    pub(super) entry: u64,
    pub(super) block: Block,
    pub(super) source: Source,
    pub(super) failures: Failures,
}

/// A block that is being read.
#[derive(Debug)]
pub(super) struct ReadPart {
    pub(super) read: u64,
    pub(super) entry: u64,
    pub(super) block: Block,
    /// Where it goes; `None` while the engine has it.
    pub(super) piece: Option<Piece>,
    /// It came damaged once.
    pub(super) again: bool,
}

/// Cuts a tensor into chunks: where each begins and how long it is.
pub(super) fn chunks(len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len)
        .step_by(CHUNK_BYTES)
        .map(move |start| (start, CHUNK_BYTES.min(len - start)))
}
