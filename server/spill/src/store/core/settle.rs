//! Tensors end: written, failed, taken back or dropped.

use std::{io, sync::Arc, time::Instant};

use tokio::sync::oneshot;

use crate::{
    engine::{Broken, Direction},
    error::Error,
    store::{
        Outcome,
        entry::{Entry, Memory},
    },
};

use super::Core;

/// Up to so many parts that are written no more are not worth a search.
const SWEEP_MIN: usize = 64;

impl Core {
    /// Goes on with a tensor after something about it has changed: nothing happens to it as long as
    /// parts of its memory fly.
    pub(super) fn advance(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.flying == 0) else {
            return;
        };
        if entry.gone {
            if entry.reading == 0 {
                self.remove(id);
            }
            return;
        }
        if entry.outcome.is_none()
            && let Some(error) = entry.failed.clone()
        {
            self.free_blocks(id);
            self.settle(id, Err(error));
            return self.requeue_waiting(id);
        }
        if !entry.waiting.is_empty() {
            return self.requeue_waiting(id);
        }
        if entry.holds > 0 || entry.outcome.is_some() {
            return;
        }
        if entry.unwritten == 0 {
            let mut dirs = entry.blocks.values().map(|b| usize::from(b.extent.dir));
            if let Some(error) = dirs.find_map(|dir| self.disks[dir].broken.clone()) {
                return self.fail(id, error);
            }
            let memory = std::mem::replace(&mut entry.memory, Memory::None);
            self.after.dropped.push(memory);
            return self.settle(id, Ok(()));
        }
        for part in std::mem::take(&mut entry.deferred) {
            self.enqueue(part);
        }
    }

    fn requeue_waiting(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let home = entry.home;
        let waiting = std::mem::take(&mut entry.waiting);
        self.disks[home].recalls.extend(waiting);
        self.ring(home);
    }

    /// Keeps a tensor in memory, since no disk takes it.
    pub(super) fn fail(&mut self, id: u64, error: Error) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.failed.get_or_insert(error);
        }
        self.drop_parts(id);
        self.advance(id);
    }

    /// Gives a tensor up: it was taken back, or nobody wants it any more.
    pub(in crate::store) fn abandon(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut entry.gone, true) {
            self.parked -= 1;
        }
        let waiting = std::mem::take(&mut entry.waiting);
        self.drop_parts(id);
        for read in waiting {
            self.end_read(read, Err(Error::Withdrawn));
        }
        self.advance(id);
    }

    /// Gives up the parts of a tensor. Those in the queues stay there until it is their turn, or
    /// until most of what is there is such: a search for each tensor would cost the queue's length.
    fn drop_parts(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.deferred.clear();
        self.stale += std::mem::take(&mut entry.queued);
        let queued: usize = self.disks.iter().map(|disk| disk.writes.len()).sum();
        if self.stale > SWEEP_MIN && self.stale > queued / 2 {
            self.sweep();
        }
    }

    /// Takes all parts out of the queues whose tensors are written no more.
    fn sweep(&mut self) {
        for disk in &mut self.disks {
            for mut part in std::mem::take(&mut disk.writes) {
                let entry = self.entries.get(&part.entry);
                match entry.is_some_and(Entry::is_to_be_written) {
                    true => disk.writes.push_back(part),
                    false => disk.release(&mut part),
                }
            }
        }
        self.stale = 0;
    }

    fn remove(&mut self, id: u64) {
        self.free_blocks(id);
        self.settle(id, Err(Error::Withdrawn));
        if let Some(entry) = self.entries.remove(&id) {
            if matches!(entry.outcome, Some(Err(_))) {
                self.kept_bytes -= entry.len as u64;
            }
            self.after.dropped.push(entry.memory);
        }
    }

    /// Gives a tensor's place on the disks back.
    fn free_blocks(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        for block in std::mem::take(&mut entry.blocks).values() {
            let space = &mut self.disks[usize::from(block.extent.dir)].space;
            match block.bad {
                true => space.quarantine(&block.extent),
                false => space.free(&block.extent),
            }
        }
        self.used_bytes -= std::mem::take(&mut entry.charge) as u64;
    }

    /// Tells the outcome of a tensor, once.
    fn settle(&mut self, id: u64, outcome: Outcome) {
        let Some(entry) = self.entries.get_mut(&id).filter(|e| e.outcome.is_none()) else {
            return;
        };
        if let Err(error) = &outcome {
            self.counters.errors.count(error);
            self.kept_bytes += entry.len as u64;
        }
        for watcher in entry.watchers.drain(..) {
            self.after.outcomes.push((watcher, outcome.clone()));
        }
        self.queued_bytes -= entry.len as u64;
        entry.outcome = Some(outcome);
        self.unsettled.remove(&id);
        self.after.tell_settled();
        self.tell_drained();
    }

    /// Returns what resolves when the tensor is written or failed.
    pub(in crate::store) fn watch(&mut self, id: u64) -> oneshot::Receiver<Outcome> {
        let (watcher, outcome) = oneshot::channel();
        match self.entries.get_mut(&id) {
            None => self.after.outcomes.push((watcher, Err(Error::Withdrawn))),
            Some(entry) => match entry.outcome.clone() {
                Some(outcome) => self.after.outcomes.push((watcher, outcome)),
                None if self.crashed => self.after.outcomes.push((watcher, Err(Error::Closed))),
                None => {
                    entry.watchers.retain(|watcher| !watcher.is_closed());
                    entry.watchers.push(watcher);
                }
            },
        }
        outcome
    }

    /// Makes the error of a transfer.
    pub(super) fn io_error(&self, dir: usize, op: Direction, source: &Arc<io::Error>) -> Error {
        Error::Io {
            op,
            dir: Arc::clone(&self.disks[dir].path),
            source: Arc::clone(source),
        }
    }

    /// Notes that a directory failed; some failures put it out of use.
    pub(in crate::store) fn failed(&mut self, dir: usize, why: &str, now: Instant) {
        if self.disks[dir].health.failed(now, why) {
            self.went_out(dir, why);
        }
    }

    /// Notes that a directory has no engine any more. What has blocks there and is not written yet
    /// stays in memory.
    pub(in crate::store) fn broke(&mut self, dir: usize, source: &Arc<io::Error>) {
        let error = self.io_error(dir, Direction::Write, source);
        self.disks[dir].broken.get_or_insert(error);
        let why = source.to_string();
        if self.disks[dir].health.end(&why) {
            self.went_out(dir, &why);
        }
    }

    fn went_out(&mut self, dir: usize, why: &str) {
        let path = &self.disks[dir].path;
        tracing::error!(dir = %path.display(), why, "directory is out of use");
        // What waits to be written there goes elsewhere.
        self.ring(dir);
        let all_out = self.disks.iter().all(|disk| disk.health.out().is_some());
        if all_out && !std::mem::replace(&mut self.told_disabled, true) {
            tracing::error!("every directory is out of use: nothing spills any more");
        }
    }
}

/// Returns whether a place is of no use after a transfer failed there: the kernel failed at the very
/// bytes, not for want of memory, or may be at them still.
pub(super) fn spoils(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, WouldBlock};
    let passes = matches!(error.kind(), Interrupted | OutOfMemory | WouldBlock);
    Broken::is(error) || (error.raw_os_error().is_some() && !passes)
}
