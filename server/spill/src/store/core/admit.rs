//! Tensors come in, or are refused.

use std::{collections::VecDeque, time::Instant};

use tokio::sync::oneshot;

use crate::{
    bounds::CAPACITY,
    error::{Error, Limit, Refused},
    extent::padded,
    store::{
        Answer, Class, Data,
        entry::{Entry, Failures, Part, chunks},
    },
};

use super::{Core, Read};

/// What is asked for in one go.
struct Asked {
    bytes: u64,
    /// Each tensor rounded up to whole blocks.
    padded_bytes: u64,
    /// Tensors that are not empty.
    items: usize,
}

impl Asked {
    fn of(lens: impl IntoIterator<Item = usize>) -> Self {
        let mut asked = Self {
            bytes: 0,
            padded_bytes: 0,
            items: 0,
        };
        for len in lens.into_iter().filter(|len| *len > 0) {
            asked.bytes += len as u64;
            asked.padded_bytes += padded(len) as u64;
            asked.items += 1;
        }
        asked
    }
}

impl Core {
    /// Takes a tensor; returns what it is known by. If it is refused, then as `never` says where that
    /// says more.
    pub(in crate::store) fn admit(
        &mut self,
        data: Data,
        never: Option<&Error>,
        now: Instant,
    ) -> Result<u64, Refused> {
        match self.check([data.len()], never, now) {
            Ok(()) => Ok(self.take(data)),
            Err(error) => Err(Refused { error, data }),
        }
    }

    /// Returns whether tensors of these lengths may be [taken](Self::take) all. If not, then with
    /// `never` where that says more.
    pub(in crate::store) fn check(
        &mut self,
        lens: impl IntoIterator<Item = usize>,
        never: Option<&Error>,
        now: Instant,
    ) -> Result<(), Error> {
        let admitted = self.admits(&Asked::of(lens), now);
        admitted.map_err(|error| {
            let never = never.filter(|never| says_more(never, &error));
            let error = never.cloned().unwrap_or(error);
            self.counters.errors.count(&error);
            error
        })
    }

    /// Takes a tensor for which there is room; returns what it is known by.
    pub(in crate::store) fn take(&mut self, data: Data) -> u64 {
        let home = self.next_dir % self.disks.len();
        let (id, entry) = (self.id(), Entry::new(data, home));
        let len = entry.len;
        self.entries.insert(id, entry);
        self.parked += 1;
        if len == 0 {
            return id;
        }
        self.unsettled.insert(id);
        self.queued_bytes += len as u64;
        self.used_bytes += padded(len) as u64;
        for (start, len) in chunks(len) {
            let part = Part {
                entry: id,
                dir: self.turn(),
                start,
                len,
                run: VecDeque::new(),
                failures: Failures::default(),
            };
            self.enqueue(part);
        }
        id
    }

    fn admits(&self, asked: &Asked, now: Instant) -> Result<(), Error> {
        let asked_bytes = asked.padded_bytes;
        let left_bytes = self.config.capacity_bytes.saturating_sub(self.used_bytes);
        let usable = || self.disks.iter().filter(|disk| disk.health.out().is_none());
        let device_bytes: u64 = usable().map(|disk| disk.writable_bytes(now)).sum();
        if self.closing {
            return Err(Error::Closed);
        }
        if usable().next().is_none() {
            return Err(self.disabled());
        }
        if asked_bytes > left_bytes {
            return Err(Error::Full {
                what: Limit::Quota,
                asked_bytes,
                left_bytes,
            });
        }
        let cannot_grow = usable().all(|disk| disk.cannot_grow(now));
        if cannot_grow && asked_bytes > device_bytes {
            return Err(Error::Full {
                what: Limit::Device,
                asked_bytes,
                left_bytes: device_bytes,
            });
        }
        self.admits_to_queue(asked)
    }

    /// What no disk took is in memory as what waits is, so that it counts against the same bound.
    fn admits_to_queue(&self, asked: &Asked) -> Result<(), Error> {
        let (queued_bytes, queued_items) = (self.queued_bytes, self.unsettled.len());
        let left_bytes = self
            .config
            .write_queue_bytes
            .saturating_sub(self.kept_bytes);
        if self.kept_bytes > 0 && left_bytes == 0 {
            return Err(Error::Full {
                what: Limit::Device,
                asked_bytes: asked.padded_bytes,
                left_bytes,
            });
        }
        let too_long = queued_bytes + asked.bytes > left_bytes;
        let too_many = queued_items + asked.items.max(1) > self.config.write_queue_items;
        // One that waits alone may be longer.
        let waits_alone = queued_items == 0 && asked.items <= 1;
        if !waits_alone && (too_long || too_many) {
            return Err(Error::QueueFull {
                queued_bytes,
                queued_items,
            });
        }
        Ok(())
    }

    /// Returns the error of a store that has no directory left.
    pub(super) fn disabled(&self) -> Error {
        let mut disks = self.disks.iter().rev();
        let reason = disks.find_map(|disk| disk.health.out().cloned());
        Error::Disabled {
            reason: reason.unwrap_or_else(|| "no directory is in use".into()),
        }
    }

    /// Returns the next directory in turn that is in use.
    fn turn(&mut self) -> usize {
        let count = self.disks.len();
        let first = self.next_dir;
        let usable = |dir: &usize| self.disks[*dir].health.out().is_none();
        let dir = (first..first + count).map(|dir| dir % count).find(usable);
        let dir = dir.unwrap_or(first % count);
        self.next_dir = dir + 1;
        dir
    }

    /// Asks for a tensor.
    pub(in crate::store) fn ask(
        &mut self,
        entry: u64,
        class: Class,
        take: bool,
    ) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        if self.crashed {
            self.after.answers.push((reply, Err(Error::Closed)));
            return answer;
        }
        let found = self.entries.get(&entry);
        let Some((dir, on_disk)) = found.map(|entry| match entry.memory.is_none() {
            true => (entry.reader(), true),
            false => (entry.home, false),
        }) else {
            self.after.answers.push((reply, Err(Error::Withdrawn)));
            return answer;
        };
        let id = self.id();
        let read = Read {
            entry,
            class,
            take,
            holding: false,
            pieces: Vec::new(),
            left: 0,
            error: None,
            reply,
        };
        self.reads.insert(id, read);
        let disk = &mut self.disks[dir];
        match on_disk {
            true => disk.requests[class.index()].push_back(id),
            false => disk.recalls.push_back(id),
        }
        self.ring(dir);
        answer
    }

    /// Returns where a tensor begins on the disks, to read neighbours one after the other.
    pub(in crate::store) fn position(&self, entry: u64) -> Option<(u16, u32, u64)> {
        let block = self.entries.get(&entry)?.blocks.first_key_value()?.1;
        let extent = &block.extent;
        Some((extent.dir, extent.segment, extent.offset))
    }
}

/// Returns whether the reason that a call is never taken says more than why its tensor is not taken
/// now. The bounds of the write queue do not hide that the store is full.
fn says_more(never: &Error, now: &Error) -> bool {
    match never {
        Error::TooLarge { key: CAPACITY, .. } => now.is_retryable(),
        _ => matches!(now, Error::QueueFull { .. }),
    }
}
