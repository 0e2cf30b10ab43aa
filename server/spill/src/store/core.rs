//! All that the store knows, behind one lock: tensors, queues, space.
//!
//! The spill threads ask it what to do next and tell it what became of it; callers add tensors and
//! reads. It does no I/O and wakes nobody: what is to happen outside of the lock is left in
//! [`After`].
//!
//! Invariant: an extent is freed only when no operation in flight touches it, and memory only when
//! none reads or fills it.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    path::Path,
    sync::Arc,
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{
    config::Config,
    error::Error,
    extent::Space,
    stats::{DirStats, Stats},
};

use super::{
    Answer,
    entry::{Block, Entry, Memory, Part, ReadPart},
    health::Health,
};

mod admit;
mod after;
mod read;
mod settle;
mod write;

pub(super) use after::After;
pub(super) use read::Lent;

/// What a thread is to do next.
#[derive(Debug)]
pub(super) enum Start {
    /// Make a segment of so many bytes.
    Grow(u64),
    /// Write these, which lie side by side; from a buffer of the thread's own if `copy`.
    Write {
        parts: Vec<super::entry::WritePart>,
        copy: bool,
    },
    /// Lease memory for these tensors and read them; if there are several, they lie side by side.
    Fetch(Vec<Fetch>),
    /// Read a block whose memory is there.
    Read(ReadPart),
    /// Answer a read from the tensor's memory.
    Copy { read: u64, len: usize, lent: Lent },
}

/// A tensor that is to be read.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) read: u64,
    pub(super) entry: u64,
    pub(super) len: usize,
    pub(super) blocks: Vec<Block>,
}

/// What a thread has room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Whether it may start an operation.
    pub(super) flight: bool,
    /// Whether one of its own buffers is free.
    pub(super) bounce: bool,
    /// Whether it may answer from memory.
    pub(super) recall: bool,
    pub(super) now: Instant,
}

/// How urgent a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Class {
    /// Somebody waits for it.
    #[default]
    Demand,
    /// It will be needed: it goes behind those that somebody waits for.
    Prefetch,
}

/// A read that was asked for.
#[derive(Debug)]
pub(super) struct Read {
    entry: u64,
    class: Class,
    /// The tensor goes with it.
    take: bool,
    /// It keeps parts of the tensor from flying.
    holding: bool,
    pieces: Vec<crate::memory::Piece>,
    left: usize,
    error: Option<Error>,
    reply: oneshot::Sender<Answer>,
}

/// One directory.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) path: Arc<Path>,
    pub(super) engine: &'static str,
    pub(super) registered: bool,
    pub(super) in_flight: usize,
    pub(super) in_flight_bytes: u64,
    space: Space,
    /// Reads of tensors that are in memory: they need no room.
    recalls: VecDeque<u64>,
    /// Reads that have no memory yet, by class.
    requests: [VecDeque<u64>; 2],
    /// Blocks of reads that have, by class.
    ready: [VecDeque<ReadPart>; 2],
    writes: VecDeque<Part>,
    /// Its thread was woken since it last looked for something to start.
    rung: bool,
    /// Counts starts, for the shares of writes and of what is read ahead.
    turn: u64,
    /// The file system gave no more room; not asked again before.
    full_until: Option<Instant>,
    /// A write found no room although its extent has some; nothing is written there before.
    write_full_until: Option<Instant>,
    health: Health,
    /// Its engine broke down: what is on it never comes back.
    broken: Option<Error>,
}

impl Disk {
    pub(super) fn new(index: u16, path: Arc<Path>, engine: &'static str) -> Self {
        Self {
            path,
            engine,
            registered: false,
            in_flight: 0,
            in_flight_bytes: 0,
            space: Space::new(index),
            recalls: VecDeque::new(),
            requests: Default::default(),
            ready: Default::default(),
            writes: VecDeque::new(),
            rung: false,
            turn: 0,
            full_until: None,
            write_full_until: None,
            health: Health::default(),
            broken: None,
        }
    }
}

/// All that the store knows.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) disks: Vec<Disk>,
    /// What has been counted so far.
    pub(super) counters: Stats,
    pub(super) after: After,
    config: Config,
    /// Whether blocks can be written from where they lie.
    in_place: bool,
    entries: HashMap<u64, Entry>,
    reads: HashMap<u64, Read>,
    /// Tensors that are neither written nor failed.
    unsettled: BTreeSet<u64>,
    /// Parts in the write queues whose tensors are written no more.
    stale: usize,
    /// Tensors that somebody wants.
    parked: usize,
    queued_bytes: u64,
    used_bytes: u64,
    /// Of tensors that no disk took, which stay in memory.
    kept_bytes: u64,
    next_id: u64,
    next_dir: usize,
    closing: bool,
    /// A thread has panicked: nobody may wait any more.
    crashed: bool,
    /// Whether the log says already that no directory is left.
    told_disabled: bool,
}

/// Every how many starts a write has its turn before the reads.
const WRITE_TURN: u64 = 4;
/// Every how many starts a read that nobody waits for yet has its turn: somebody may by then.
const PREFETCH_TURN: u64 = 8;

impl Core {
    pub(super) fn new(config: Config, disks: Vec<Disk>, in_place: bool) -> Self {
        Self {
            disks,
            counters: Stats::default(),
            after: After::default(),
            config,
            in_place,
            entries: HashMap::new(),
            reads: HashMap::new(),
            unsettled: BTreeSet::new(),
            stale: 0,
            parked: 0,
            queued_bytes: 0,
            used_bytes: 0,
            kept_bytes: 0,
            next_id: 0,
            next_dir: 0,
            closing: false,
            crashed: false,
            told_disabled: false,
        }
    }

    /// Returns what the thread of a directory is to do next.
    pub(super) fn pick(&mut self, dir: usize, room: Room) -> Option<Start> {
        self.disks[dir].rung = false;
        let recall = room.recall.then(|| self.pick_recall(dir)).flatten();
        if recall.is_some() || !room.flight {
            return recall;
        }
        let turn = self.disks[dir].turn;
        let writes_first = turn % WRITE_TURN == WRITE_TURN - 1;
        let prefetch_first = turn % PREFETCH_TURN == PREFETCH_TURN - 3;
        let write = |core: &mut Self| core.pick_write(dir, room);
        let prefetch = |core: &mut Self| core.pick_read(dir, Class::Prefetch, room);
        let start = writes_first
            .then(|| write(self))
            .flatten()
            .or_else(|| prefetch_first.then(|| prefetch(self)).flatten())
            .or_else(|| self.pick_read(dir, Class::Demand, room))
            .or_else(|| prefetch(self))
            .or_else(|| write(self));
        if start.is_some() {
            self.disks[dir].turn += 1;
        }
        start
    }

    /// Ends the intake.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.after.ring_all();
    }

    /// Ends the intake and all waiting: a thread has panicked, and what it was at never ends.
    pub(super) fn crash(&mut self) {
        self.crashed = true;
        let closed = |(_, read): (u64, Read)| (read.reply, Err(Error::Closed));
        self.after.answers.extend(self.reads.drain().map(closed));
        self.unsettled.clear();
        for entry in self.entries.values_mut() {
            let watchers = entry.watchers.drain(..);
            let closed = watchers.map(|watcher| (watcher, Err(Error::Closed)));
            self.after.outcomes.extend(closed);
        }
        self.after.tell_settled();
        self.close();
    }

    /// Returns whether nothing more will come for any thread.
    pub(super) fn is_drained(&self) -> bool {
        self.closing && self.unsettled.is_empty() && self.reads.is_empty()
    }

    /// Lets the threads see that nothing more will come.
    fn tell_drained(&mut self) {
        if self.is_drained() {
            self.after.ring_all();
        }
    }

    /// Returns the first tensor that will be added from now on.
    pub(super) fn horizon(&self) -> u64 {
        self.next_id
    }

    /// Returns whether every tensor before `horizon` is written or failed.
    pub(super) fn is_settled(&self, horizon: u64) -> bool {
        self.unsettled.first().is_none_or(|first| *first >= horizon)
    }

    pub(super) fn stats(&self) -> Stats {
        let queued = |disk: &Disk| disk.requests.iter().map(VecDeque::len).sum::<usize>();
        Stats {
            queued_items: self.unsettled.len(),
            queued_bytes: self.queued_bytes,
            queued_reads: self.disks.iter().map(queued).sum(),
            in_flight: self.disks.iter().map(|disk| disk.in_flight).sum(),
            in_flight_bytes: self.disks.iter().map(|disk| disk.in_flight_bytes).sum(),
            parked: self.parked,
            kept_bytes: self.kept_bytes,
            used_bytes: self.used_bytes,
            capacity_bytes: self.config.capacity_bytes,
            largest_free_bytes: self
                .disks
                .iter()
                .map(|d| d.space.largest_free())
                .max()
                .unwrap_or(0),
            bad_bytes: self.disks.iter().map(|disk| disk.space.bad_bytes()).sum(),
            dirs: self.disks.iter().map(Disk::stats).collect(),
            ..self.counters.clone()
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Wakes a directory's thread, unless it was woken already and has not looked since.
    fn ring(&mut self, dir: usize) {
        if !std::mem::replace(&mut self.disks[dir].rung, true) {
            self.after.ring(dir);
        }
    }
}

impl Disk {
    /// Takes back the extents that a part did not use.
    fn release(&mut self, part: &mut Part) {
        for extent in part.run.drain(..) {
            self.space.free(&extent);
        }
    }

    /// Returns whether a write found it full a moment ago, whatever room its segments have.
    fn is_write_full(&self, now: Instant) -> bool {
        self.write_full_until.is_some_and(|until| now < until)
    }

    /// Returns whether it cannot get another segment now.
    fn cannot_grow(&self, now: Instant) -> bool {
        self.is_write_full(now) || self.full_until.is_some_and(|until| now < until)
    }

    /// Returns how many bytes can be written without another segment.
    fn writable_bytes(&self, now: Instant) -> u64 {
        match self.is_write_full(now) {
            true => 0,
            false => self.space.free_bytes(),
        }
    }

    fn stats(&self) -> DirStats {
        DirStats {
            path: Arc::clone(&self.path),
            engine: self.engine,
            registered: self.registered,
            segment_bytes: self.space.bytes(),
            out_of_use: self.health.out().cloned(),
        }
    }
}

impl Read {
    /// Returns whether nobody waits for it any more.
    fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }
}

impl Class {
    fn index(self) -> usize {
        match self {
            Self::Demand => 0,
            Self::Prefetch => 1,
        }
    }
}

impl Memory {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    fn is_bytes(&self) -> bool {
        matches!(self, Self::Bytes(_))
    }
}

#[cfg(test)]
mod tests;
