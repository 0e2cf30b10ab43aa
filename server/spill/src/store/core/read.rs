//! Tensors come back: from the disks, or from memory that was not written yet.
//!
//! Invariant: a read is answered exactly once, and before that its tensor's extents stay.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;

use crate::{
    engine::Direction,
    error::Error,
    extent::padded,
    memory::{HostBuf, Piece},
    store::Answer,
    store::entry::{Block, Memory, PIECE_BYTES, ReadPart, SMALL_BYTES},
};

use super::{Class, Core, Fetch, Room, Start, settle::spoils};

/// A tensor's memory, lent to be copied.
#[derive(Debug)]
pub(in crate::store) enum Lent {
    Pieces(BTreeMap<usize, Piece>),
    Bytes(Bytes),
}

impl Core {
    pub(super) fn pick_read(&mut self, dir: usize, class: Class, room: Room) -> Option<Start> {
        while let Some(part) = self.disks[dir].ready[class.index()].pop_front() {
            let cancelled = self
                .reads
                .get(&part.read)
                .is_none_or(|read| read.is_cancelled());
            if !cancelled {
                return Some(Start::Read(part));
            }
            self.not_read(part, Error::Withdrawn);
        }
        while let Some(id) = self.disks[dir].requests[class.index()].pop_front() {
            if self.is_wanted(id) {
                return Some(self.fetch(dir, id, room));
            }
            self.end_read(id, Err(Error::Withdrawn));
        }
        None
    }

    /// Answers reads of tensors that are in memory, as far as that needs no copy.
    pub(super) fn pick_recall(&mut self, dir: usize) -> Option<Start> {
        while let Some(id) = self.disks[dir].recalls.pop_front() {
            if !self.is_wanted(id) {
                self.end_read(id, Err(Error::Withdrawn));
            } else if let Some(start) = self.recall(id) {
                return Some(start);
            }
        }
        None
    }

    /// Returns whether somebody waits for a read, of a tensor that is there.
    fn is_wanted(&self, read: u64) -> bool {
        self.reads.get(&read).is_some_and(|read| {
            let entry = self.entries.get(&read.entry);
            !read.is_cancelled() && entry.is_some_and(|entry| !entry.gone)
        })
    }

    fn recall(&mut self, id: u64) -> Option<Start> {
        let read = self.reads.get_mut(&id)?;
        let entry = self.entries.get_mut(&read.entry)?;
        let lent = match &mut entry.memory {
            Memory::None => {
                let (dir, class) = (entry.reader(), read.class.index());
                self.disks[dir].requests[class].push_back(id);
                self.ring(dir);
                return None;
            }
            Memory::Bytes(bytes) => Lent::Bytes(bytes.clone()),
            Memory::Pieces(_) if entry.flying > 0 => {
                // No further part may fly, so that the memory is whole soon.
                if !std::mem::replace(&mut read.holding, true) {
                    entry.holds += 1;
                }
                entry.waiting.push(id);
                return None;
            }
            Memory::Pieces(pieces) => {
                let mut all = std::mem::take(pieces);
                if read.take {
                    match Memory::join(all) {
                        Ok(buffer) => {
                            self.counters.from_memory += 1;
                            self.end_read(id, Ok(buffer));
                            return None;
                        }
                        Err(pieces) => all = pieces,
                    }
                }
                if !std::mem::replace(&mut read.holding, true) {
                    entry.holds += 1;
                }
                entry.flying += 1;
                Lent::Pieces(all)
            }
        };
        let len = entry.len;
        self.counters.from_memory += 1;
        Some(Start::Copy {
            read: id,
            len,
            lent,
        })
    }

    /// Gathers a read, and those behind it that lie behind it on the disk.
    fn fetch(&mut self, dir: usize, id: u64, room: Room) -> Start {
        let class = self.reads[&id].class.index();
        let alone = self.small_on_disk(id).filter(|_| room.bounce);
        let mut group = vec![self.fetch_one(id)];
        let Some(mut last) = alone else {
            return Start::Fetch(group);
        };
        let mut bytes = padded(last.len);
        while let Some(next) = self.disks[dir].requests[class].front().copied() {
            let follows = |block: &Block| {
                last.extent.touches(&block.extent) && bytes + padded(block.len) <= PIECE_BYTES
            };
            let Some(block) = self.small_on_disk(next).filter(follows) else {
                break;
            };
            self.disks[dir].requests[class].pop_front();
            group.push(self.fetch_one(next));
            bytes += padded(block.len);
            last = block;
        }
        if group.len() > 1 {
            self.counters.merged_reads += group.len() as u64;
        }
        Start::Fetch(group)
    }

    /// Returns the only block of a small tensor that a read waits for.
    fn small_on_disk(&self, read: u64) -> Option<Block> {
        let read = self.reads.get(&read).filter(|_| self.is_wanted(read))?;
        let entry = self.entries.get(&read.entry)?;
        let alone = entry.blocks.len() == 1 && matches!(entry.memory, Memory::None);
        let block = entry.blocks.values().next()?;
        (alone && entry.len <= SMALL_BYTES).then_some(*block)
    }

    fn fetch_one(&mut self, id: u64) -> Fetch {
        let read = self.reads.get_mut(&id).expect("it was looked up before");
        let entry = self
            .entries
            .get_mut(&read.entry)
            .expect("it was looked up before");
        read.left = entry.blocks.len();
        entry.reading += entry.blocks.len();
        Fetch {
            read: id,
            entry: read.entry,
            len: entry.len,
            blocks: entry.blocks.values().copied().collect(),
        }
    }

    /// Queues blocks that have their memory now.
    pub(in crate::store) fn ready(&mut self, parts: Vec<ReadPart>) {
        for part in parts {
            let dir = usize::from(part.block.extent.dir);
            let class = self
                .reads
                .get(&part.read)
                .map_or(Class::Demand, |read| read.class);
            self.disks[dir].ready[class.index()].push_back(part);
            self.ring(dir);
        }
    }

    /// A block has come back, whole.
    pub(in crate::store) fn was_read(&mut self, part: ReadPart, piece: Piece) {
        if let Some(read) = self.reads.get_mut(&part.read) {
            read.pieces.push(piece);
        }
        self.end_part(&part);
    }

    /// A block did not come back.
    pub(in crate::store) fn not_read(&mut self, mut part: ReadPart, error: Error) {
        self.after.pieces.extend(part.piece.take());
        if let Some(read) = self.reads.get_mut(&part.read) {
            read.error.get_or_insert(error);
        }
        self.end_part(&part);
    }

    /// A block's transfer failed.
    pub(in crate::store) fn read_failed(&mut self, part: ReadPart, source: &Arc<io::Error>) {
        let dir = usize::from(part.block.extent.dir);
        let error = self.io_error(dir, Direction::Read, source);
        if spoils(source) {
            self.spoil(&part);
        }
        self.not_read(part, error);
    }

    /// A block came back damaged, twice.
    pub(in crate::store) fn damaged(&mut self, part: ReadPart) {
        let dir = Arc::clone(&self.disks[usize::from(part.block.extent.dir)].path);
        tracing::error!(dir = %dir.display(), extent = ?part.block.extent, "a tensor came back damaged");
        self.spoil(&part);
        self.not_read(part, Error::Corrupt { dir });
    }

    /// Sees to it that nothing else is written to the place of a block.
    fn spoil(&mut self, part: &ReadPart) {
        if let Some(entry) = self.entries.get_mut(&part.entry)
            && let Some(block) = entry.blocks.get_mut(&part.block.start)
        {
            block.bad = true;
        }
    }

    fn end_part(&mut self, part: &ReadPart) {
        if let Some(entry) = self.entries.get_mut(&part.entry) {
            entry.reading -= 1;
        }
        if let Some(read) = self.reads.get_mut(&part.read) {
            read.left -= 1;
            if read.left == 0 {
                let pieces = std::mem::take(&mut read.pieces);
                let result = match read.error.take() {
                    Some(error) => {
                        self.after.pieces.extend(pieces);
                        Err(error)
                    }
                    None => Ok(Piece::join(pieces).expect("all blocks are back")),
                };
                self.end_read(part.read, result);
            }
        }
        self.advance(part.entry);
    }

    /// Takes back what was lent, and answers the read with its copy.
    pub(in crate::store) fn copied(&mut self, id: u64, copy: HostBuf, lent: Lent) {
        match lent {
            // The tensor may be gone: then these are the last.
            Lent::Bytes(bytes) => self.after.dropped.push(Memory::Bytes(bytes)),
            Lent::Pieces(lent) => {
                if let Some(read) = self.reads.get(&id)
                    && let Some(entry) = self.entries.get_mut(&read.entry)
                {
                    entry.flying -= 1;
                    if let Memory::Pieces(pieces) = &mut entry.memory {
                        pieces.extend(lent);
                    }
                }
            }
        }
        self.end_read(id, Ok(copy));
    }

    /// Answers a read. A tensor that was taken by it is given up.
    pub(in crate::store) fn end_read(&mut self, id: u64, result: Answer) {
        let Some(read) = self.reads.remove(&id) else {
            return;
        };
        if let Err(error) = &result {
            self.counters.errors.count(error);
        }
        let taken = read.take && result.is_ok();
        self.after.answers.push((read.reply, result));
        if read.holding
            && let Some(entry) = self.entries.get_mut(&read.entry)
        {
            entry.holds -= 1;
        }
        match taken {
            true => self.abandon(read.entry),
            false => self.advance(read.entry),
        }
        self.tell_drained();
    }
}
