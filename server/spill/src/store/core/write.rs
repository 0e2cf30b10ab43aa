//! Tensors go out: which parts are written next, where to, and what becomes of those that fail.
//!
//! Invariant: a part is in exactly one place: a queue, its tensor's deferred ones, in flight, or on
//! a disk. One whose tensor is gone may stay in its queue until its turn, where it is dropped.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use crate::{
    engine::Direction,
    error::{Error, Limit},
    extent::{BLOCK, Extent, padded},
    seal::Seal,
    store::entry::{Block, PIECE_BYTES, Part, WritePart},
};

use super::{Core, Room, Start};

/// How long a file system that has no room is not asked again.
const FULL_PAUSE: Duration = Duration::from_secs(5);
/// Over how many extents of one directory a part is tried.
const TRIES_HERE: u32 = 2;

enum Found {
    Run(VecDeque<Extent>),
    /// A segment of so many bytes is to be made first.
    Grow(u64),
    Nothing,
}

impl Core {
    pub(super) fn enqueue(&mut self, part: Part) {
        let dir = part.dir;
        if let Some(entry) = self.entries.get_mut(&part.entry) {
            entry.queued += 1;
            self.disks[dir].writes.push_back(part);
            self.ring(dir);
        }
    }

    fn put_first(&mut self, part: Part) {
        if let Some(entry) = self.entries.get_mut(&part.entry) {
            entry.queued += 1;
            self.disks[part.dir].writes.push_front(part);
        }
    }

    /// Takes the first part that may be written now.
    fn next_part(&mut self, dir: usize, fits: impl Fn(&Part) -> bool) -> Option<Part> {
        loop {
            let disk = &mut self.disks[dir];
            let front = disk.writes.front()?;
            let entry = self.entries.get_mut(&front.entry);
            let entry = entry.filter(|entry| entry.is_to_be_written());
            if entry.is_some() && !fits(front) {
                return None;
            }
            let mut part = disk.writes.pop_front()?;
            let Some(entry) = entry else {
                self.stale -= 1;
                disk.release(&mut part);
                continue;
            };
            entry.queued -= 1;
            if entry.holds == 0 {
                return Some(part);
            }
            disk.release(&mut part);
            entry.deferred.push(part);
        }
    }

    pub(super) fn pick_write(&mut self, dir: usize, room: Room) -> Option<Start> {
        loop {
            let mut part = self.next_part(dir, |_| true)?;
            if self.disks[dir].health.out().is_some() {
                self.redirect(part);
                continue;
            }
            let copy = !self.in_place || self.entries[&part.entry].memory.is_bytes();
            if copy && !room.bounce {
                self.put_first(part);
                return None;
            }
            if part.is_small() && room.bounce {
                match self.gather(dir, part, room.now) {
                    Ok(start) => return Some(start),
                    Err(alone) => part = alone,
                }
            }
            if part.run.is_empty() {
                match self.find(dir, padded(part.len) as u64, room.now) {
                    Found::Run(run) => part.run = run,
                    Found::Grow(bytes) => {
                        self.put_first(part);
                        return Some(Start::Grow(bytes));
                    }
                    Found::Nothing => {
                        let error = self.device_full(dir, padded(part.len) as u64, room.now);
                        part.failures.tried |= 1 << dir;
                        part.failures.last = Some(error);
                        self.redirect(part);
                        continue;
                    }
                }
            }
            let parts = vec![self.carve(part)];
            return Some(Start::Write { parts, copy });
        }
    }

    /// Puts small parts side by side, for one write. Gives the part back if there is no other, or no
    /// room for all in one run.
    fn gather(&mut self, dir: usize, first: Part, now: Instant) -> Result<Start, Part> {
        let mut bytes = padded(first.len);
        let mut group = vec![first];
        let fits = |bytes: usize| {
            move |part: &Part| part.is_small() && bytes + padded(part.len) <= PIECE_BYTES
        };
        while let Some(part) = self.next_part(dir, fits(bytes)) {
            bytes += padded(part.len);
            group.push(part);
        }
        let run = (group.len() > 1)
            .then(|| self.find(dir, bytes as u64, now))
            .and_then(|found| match found {
                Found::Run(run) if run.len() == 1 => run.into_iter().next(),
                Found::Run(run) => {
                    run.iter().for_each(|part| self.disks[dir].space.free(part));
                    None
                }
                Found::Grow(_) | Found::Nothing => None,
            });
        let Some(mut run) = run else {
            let rest = group.split_off(1);
            rest.into_iter().rev().for_each(|part| self.put_first(part));
            return Err(group.remove(0));
        };
        self.counters.coalesced += group.len() as u64;
        let parts = group
            .into_iter()
            .map(|mut part| {
                part.run = VecDeque::from([run.carve(padded(part.len) as u64)]);
                self.carve(part)
            })
            .collect();
        Ok(Start::Write { parts, copy: true })
    }

    /// Takes the next block off a part that has extents; the rest goes back to the queue.
    fn carve(&mut self, mut part: Part) -> WritePart {
        let run = part.run.front_mut().expect("it has extents");
        let bytes = PIECE_BYTES.min(padded(part.len));
        let bytes = run.bytes.min(bytes as u64);
        let extent = run.carve(bytes);
        if run.bytes == 0 {
            part.run.pop_front();
        }
        let bytes = usize::try_from(bytes).expect("at most one piece");
        let len = bytes.min(part.len);
        let entry = self
            .entries
            .get_mut(&part.entry)
            .expect("queued parts live");
        entry.flying += 1;
        let block = Block {
            start: part.start,
            len,
            extent,
            seal: Seal::None,
            bad: false,
        };
        let source = entry.memory.lend(part.start, bytes, len);
        let id = part.entry;
        let failures = std::mem::take(&mut part.failures);
        part.start += bytes;
        part.len -= len;
        if part.len > 0 {
            part.failures.tried = failures.tried;
            self.put_first(part);
        }
        WritePart {
            entry: id,
            block,
            source,
            failures,
        }
    }

    /// Finds room. A run is worth a new segment; scattered blocks are better than none.
    fn find(&mut self, dir: usize, bytes: u64, now: Instant) -> Found {
        let capacity = self.config.capacity_bytes.next_multiple_of(BLOCK);
        let segment = self.config.segment_bytes.min(capacity);
        let disk = &mut self.disks[dir];
        if disk.is_write_full(now) {
            return Found::Nothing;
        }
        if let Some(extent) = disk.space.allocate(bytes) {
            return Found::Run(VecDeque::from([extent]));
        }
        let helps = bytes <= segment || disk.space.free_bytes() < bytes;
        let within = disk.space.bytes() - disk.space.bad_bytes() < capacity;
        if helps && within && !disk.cannot_grow(now) {
            return Found::Grow(segment);
        }
        match disk.space.allocate_scattered(bytes) {
            Some(run) => Found::Run(run.into()),
            None => Found::Nothing,
        }
    }

    /// A segment was made, or not.
    pub(in crate::store) fn grown(&mut self, dir: usize, made: io::Result<u64>, now: Instant) {
        let disk = &mut self.disks[dir];
        match made {
            Ok(bytes) => {
                disk.full_until = None;
                disk.space.add_segment(bytes);
            }
            Err(error) => {
                if disk.full_until.is_none() {
                    tracing::warn!(dir = %disk.path.display(), %error, "no room for another segment");
                }
                disk.full_until = Some(now + FULL_PAUSE);
            }
        }
    }

    fn device_full(&self, dir: usize, asked_bytes: u64, now: Instant) -> Error {
        Error::Full {
            what: Limit::Device,
            asked_bytes,
            left_bytes: self.disks[dir].writable_bytes(now),
        }
    }

    /// A block is on the disk.
    pub(in crate::store) fn written(&mut self, part: WritePart) {
        let Some(entry) = self.entries.get_mut(&part.entry) else {
            return;
        };
        entry.flying -= 1;
        entry.memory.give_back(part.block.start, part.source);
        entry.blocks.insert(part.block.start, part.block);
        entry.unwritten -= padded(part.block.len);
        self.advance(part.entry);
    }

    /// A block could not be written: it is tried elsewhere.
    pub(in crate::store) fn not_written(
        &mut self,
        dir: usize,
        part: WritePart,
        source: &std::sync::Arc<io::Error>,
        now: Instant,
    ) {
        let WritePart {
            entry: id,
            block,
            source: memory,
            mut failures,
        } = part;
        let error = if source.kind() == io::ErrorKind::StorageFull {
            self.disks[dir].space.free(&block.extent);
            self.disks[dir].write_full_until = Some(now + FULL_PAUSE);
            failures.tried |= 1 << dir;
            self.device_full(dir, block.extent.bytes, now)
        } else {
            self.disks[dir].space.quarantine(&block.extent);
            failures.here += 1;
            self.io_error(dir, Direction::Write, source)
        };
        failures.last = Some(error);
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.flying -= 1;
        entry.memory.give_back(block.start, memory);
        if entry.is_to_be_written() {
            let part = Part {
                entry: id,
                dir,
                start: block.start,
                len: block.len,
                run: VecDeque::new(),
                failures,
            };
            if part.failures.here < TRIES_HERE && part.failures.tried & (1 << dir) == 0 {
                self.enqueue(part);
            } else {
                self.redirect(part);
            }
        }
        self.advance(id);
    }

    /// Sends a part to a directory that has not had it; without one, its tensor stays in memory.
    fn redirect(&mut self, mut part: Part) {
        self.disks[part.dir].release(&mut part);
        part.failures.tried |= 1 << part.dir;
        part.failures.here = 0;
        let tried = part.failures.tried;
        let other = (0..self.disks.len())
            .find(|dir| tried & (1 << dir) == 0 && self.disks[*dir].health.out().is_none());
        if let Some(dir) = other {
            part.dir = dir;
            return self.enqueue(part);
        }
        let error = part.failures.last.take();
        let error = error.unwrap_or_else(|| self.disabled());
        self.fail(part.entry, error);
    }
}
