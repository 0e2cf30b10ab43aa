//! Blocks on their way back.

use std::{io, sync::Arc, time::Instant};

use crate::{
    engine,
    extent::padded,
    memory::{HostBuf, Piece},
    seal::{Broken, Place},
    store::{
        core::{Fetch, Lent},
        entry::ReadPart,
    },
};

use super::{Cargo, Driver, SUBMIT_BYTES};

/// Blocks that were read.
pub(super) struct Arrived {
    parts: Vec<ReadPart>,
    memory: Piece,
    tail: Option<Piece>,
}

impl Driver {
    /// Leases memory for tensors and starts to read them.
    pub(super) fn fetch(&mut self, mut group: Vec<Fetch>) {
        if group.len() > 1 {
            let parts: Vec<ReadPart> = group.into_iter().flat_map(|one| self.cut(one)).collect();
            let bytes = parts.iter().map(|part| padded(part.block.len)).sum();
            let (memory, tail) = self.bounce(bytes);
            return self.launch(Cargo::Read(parts), memory, Some(tail));
        }
        let Some(one) = group.pop() else {
            return;
        };
        if one.blocks.is_empty() {
            let empty = self.shared.pool.lease(0);
            return self.shared.with(|core| core.end_read(one.read, Ok(empty)));
        }
        let mut parts = self.cut(one);
        let here = |part: &ReadPart| usize::from(part.block.extent.dir) == self.dir;
        if parts.len() == 1 && here(&parts[0]) {
            parts.drain(..).for_each(|part| self.read(part));
        } else {
            self.shared.with(|core| core.ready(parts));
        }
    }

    /// Leases memory for a tensor and cuts it as its blocks are.
    fn cut(&self, one: Fetch) -> Vec<ReadPart> {
        let buffer = self.shared.pool.lease(one.len);
        let mut rest = buffer.into_pieces(padded(one.len)).pop();
        one.blocks
            .into_iter()
            .map(|block| {
                let mut piece = rest.take().expect("blocks are as long as their tensor");
                rest = Some(piece.split_off(padded(block.len)));
                ReadPart {
                    read: one.read,
                    entry: one.entry,
                    block,
                    piece: Some(piece),
                    again: false,
                }
            })
            .collect()
    }

    /// Reads a block to where it belongs.
    pub(super) fn read(&mut self, mut part: ReadPart) {
        let piece = part.piece.take().expect("it is where the block goes");
        self.launch(Cargo::Read(vec![part]), piece, None);
    }

    pub(super) fn land_read(
        &mut self,
        parts: Vec<ReadPart>,
        (memory, tail): (Piece, Option<Piece>),
        result: Result<(), Arc<io::Error>>,
    ) {
        if let Err(error) = result {
            // A broken engine keeps what it would have read to.
            if let Some(tail) = tail.filter(|_| !memory.is_empty()) {
                self.give_back(memory, tail);
            }
            // One bad place is no fault of those beside it: each is read on its own, in its turn.
            let again = parts.len() > 1 && !engine::Broken::is(&error);
            return self.shared.with(|core| {
                if again {
                    core.counters.retries += parts.len() as u64;
                    core.ready(parts);
                } else {
                    parts
                        .into_iter()
                        .for_each(|part| core.read_failed(part, &error));
                }
            });
        }
        self.arrived.push_back(Arrived {
            parts,
            memory,
            tail,
        });
    }

    /// Hands on what was read, after a look at each block; not all of it at once, as the disk may
    /// have room for more by then.
    pub(super) fn take_in(&mut self) {
        let mut bytes = 0;
        while bytes < SUBMIT_BYTES
            && let Some(arrived) = self.arrived.pop_front()
        {
            bytes += arrived.memory.len() as u64;
            self.take_in_one(arrived);
        }
    }

    /// Takes in a shared read where none of the thread's own buffers is free: without one, the next
    /// reads would not share.
    pub(super) fn free_bounce(&mut self) {
        let shared = |arrived: &Arrived| arrived.tail.is_some();
        if self.bounces.is_empty()
            && let Some(at) = self.arrived.iter().position(shared)
            && let Some(arrived) = self.arrived.remove(at)
        {
            self.submit();
            self.take_in_one(arrived);
        }
    }

    fn take_in_one(&mut self, arrived: Arrived) {
        let Arrived {
            mut parts,
            memory,
            tail,
        } = arrived;
        match tail {
            None => parts[0].piece = Some(memory),
            Some(tail) => {
                let mut from = &memory[..];
                for part in &mut parts {
                    let (block, behind) = from.split_at(padded(part.block.len));
                    if let Some(piece) = &mut part.piece {
                        piece.copy_from_slice(block);
                    }
                    from = behind;
                }
                self.give_back(memory, tail);
            }
        }
        for part in parts {
            self.check(part);
        }
    }

    /// Hands a block on if it is what was written; if not, reads it once more.
    fn check(&mut self, mut part: ReadPart) {
        let mut piece = part.piece.take().expect("the block is there");
        let block = &part.block;
        let place = Place::new(block.extent, block.start);
        let opened = self
            .shared
            .sealer
            .open(&place, &block.seal, &mut piece[..block.len]);
        match opened {
            Ok(()) => self.shared.with(|core| core.was_read(part, piece)),
            Err(Broken) if !part.again => {
                part.again = true;
                part.piece = Some(piece);
                // It has its turn like others: a shared read may have more tensors than there is
                // room at the engine.
                self.shared.with(|core| {
                    core.counters.retries += 1;
                    core.ready(vec![part]);
                });
            }
            Err(Broken) => {
                drop(piece);
                let now = Instant::now();
                self.shared.with(|core| {
                    core.failed(self.dir, "tensors come back damaged", now);
                    core.damaged(part);
                });
            }
        }
    }

    /// Answers a read from memory that is not written yet.
    pub(super) fn copy(&mut self, read: u64, len: usize, lent: Lent) {
        let mut copy: HostBuf = self.shared.pool.lease(len);
        match &lent {
            Lent::Bytes(bytes) => copy.copy_from_slice(bytes),
            Lent::Pieces(pieces) => {
                for (start, piece) in pieces {
                    let to = &mut copy[*start..];
                    let bytes = to.len().min(piece.len());
                    to[..bytes].copy_from_slice(&piece[..bytes]);
                }
            }
        }
        self.shared.with(|core| core.copied(read, copy, lent));
    }
}
