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
    extent::{Extent, padded},
    seal::Seal,
    store::entry::{Block, PIECE_BYTES, Part, WritePart},
};

use super::{Core, Room, Start, settle::spoils};

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

    fn put_all_first(&mut self, parts: Vec<Part>) {
        parts
            .into_iter()
            .rev()
            .for_each(|part| self.put_first(part));
    }

    /// Takes the first part that may be written now.
    pub(super) fn next_part(&mut self, dir: usize, fits: impl Fn(&Part) -> bool) -> Option<Part> {
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

    /// Puts small parts side by side, for one write, as many as one run holds. Gives the part back if
    /// there is no other, or no room for two.
    pub(super) fn gather(&mut self, dir: usize, first: Part, now: Instant) -> Result<Start, Part> {
        if self.disks[dir].is_write_full(now) {
            // Else each part in the queue would have all the others looked at.
            return Err(first);
        }
        let most = self.longest_run(dir, now).min(PIECE_BYTES as u64);
        let mut bytes = padded(first.len);
        let mut group = vec![first];
        let fits = |bytes: usize| {
            move |part: &Part| part.is_small() && (bytes + padded(part.len)) as u64 <= most
        };
        while let Some(part) = self.next_part(dir, fits(bytes)) {
            bytes += padded(part.len);
            group.push(part);
        }
        let found = match group.len() {
            1 => Found::Nothing,
            _ => self.find_run(dir, bytes as u64, now),
        };
        let mut run = match found {
            Found::Run(run) => run[0],
            Found::Grow(bytes) => {
                self.put_all_first(group);
                return Ok(Start::Grow(bytes));
            }
            Found::Nothing => {
                self.put_all_first(group.split_off(1));
                return Err(group.remove(0));
            }
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

    /// Finds room: one run, or scattered ones where there is none.
    fn find(&mut self, dir: usize, bytes: u64, now: Instant) -> Found {
        let found = self.find_run(dir, bytes, now);
        let disk = &mut self.disks[dir];
        match found {
            Found::Nothing if !disk.is_write_full(now) => {
                let run = disk.space.allocate_scattered(bytes);
                run.map_or(Found::Nothing, |run| Found::Run(run.into()))
            }
            found => found,
        }
    }

    /// Finds one run, which is worth a new segment.
    fn find_run(&mut self, dir: usize, bytes: u64, now: Instant) -> Found {
        let segment = self.next_segment(dir, now);
        let disk = &mut self.disks[dir];
        if disk.is_write_full(now) {
            return Found::Nothing;
        }
        if let Some(extent) = disk.space.allocate(bytes) {
            return Found::Run(VecDeque::from([extent]));
        }
        let lacking = disk.space.free_bytes() < bytes;
        match segment.filter(|segment| bytes <= *segment || lacking) {
            Some(segment) => Found::Grow(segment),
            None => Found::Nothing,
        }
    }

    /// Returns how long the longest run is that there is, by a new segment maybe.
    fn longest_run(&self, dir: usize, now: Instant) -> u64 {
        let free = self.disks[dir].space.largest_free();
        free.max(self.next_segment(dir, now).unwrap_or(0))
    }

    /// Returns how long another segment would be, if there may be one now.
    fn next_segment(&self, dir: usize, now: Instant) -> Option<u64> {
        let disk = &self.disks[dir];
        let within = disk.space.bytes() - disk.space.bad_bytes() < self.config.usable_bytes();
        (within && !disk.cannot_grow(now))
            .then(|| self.config.next_segment_bytes(disk.space.segments()))
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
            let space = &mut self.disks[dir].space;
            match spoils(source) {
                true => space.quarantine(&block.extent),
                false => space.free(&block.extent),
            }
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
