//! The thread of one directory: starts what the core picks, and brings back what became of it.
//!
//! It waits for work in the engine's wait. Checksums, encryption, copies, the making of segments and
//! leases of buffers run here too, outside of the lock, and hold up the operations behind them.
//!
//! Invariant: every operation at the engine has its flight, which says what it is for.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    engine::{Broken, Direction, Done, Engine, FileId, Op},
    memory::{Piece, Pool},
};

use super::{
    core::{Room, Start},
    entry::{PIECE_BYTES, ReadPart, WritePart},
    retry::{self, Tries, Verdict},
    shared::Shared,
};
use read::Arrived;

mod read;
mod write;

/// Where segments come from.
pub(crate) trait Files: Send {
    /// Makes a segment of `bytes` bytes, whose room is its own.
    fn create(&mut self, bytes: u64) -> io::Result<Arc<File>>;

    /// Returns how many bytes the file system has left.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Bytes in flight for one directory at most.
const FLIGHT_BYTES: u64 = 64 << 20;
/// The least segment, where there is no room for a whole one: a file for less would be one of many.
const LEAST_SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes after which operations are submitted, though more are to come: while their checksums are
/// computed the disk has something to do. Also those after which a thread goes from what starts to
/// what has arrived, and back, and those that it answers from memory before it looks at the disk.
const SUBMIT_BYTES: u64 = 2 << 20;
/// Buffers of a thread's own, of one piece each, at most.
const BOUNCES: usize = 16;

pub(super) struct Driver {
    dir: usize,
    shared: Arc<Shared>,
    engine: Box<dyn Engine>,
    files: Box<dyn Files>,
    /// The engine's names of the segments.
    segments: Vec<FileId>,
    min_free_bytes: u64,
    flights: HashMap<u64, Flight>,
    flight_bytes: u64,
    /// Bytes of the operations that were not submitted yet.
    pushed_bytes: u64,
    /// Bytes that were pushed or copied since what has arrived had its turn.
    moved_bytes: u64,
    /// Bytes that were answered from memory since the disk had its turn.
    copied_bytes: u64,
    /// What was read and is not looked at yet.
    arrived: VecDeque<Arrived>,
    next_op: u64,
    /// Buffers of its own that are free.
    bounces: Vec<Piece>,
    /// What starts again later.
    delayed: Vec<(Instant, Op)>,
}

/// What an operation is for.
struct Flight {
    cargo: Cargo,
    /// The rest of the thread's own buffer, if the operation uses one.
    tail: Option<Piece>,
    tries: Tries,
    began: Instant,
    bytes: u64,
}

enum Cargo {
    Write(Vec<WritePart>),
    Read(Vec<ReadPart>),
}

impl Driver {
    pub(super) fn new(
        (dir, shared): (usize, Arc<Shared>),
        mut engine: Box<dyn Engine>,
        files: Box<dyn Files>,
        min_free_bytes: u64,
    ) -> Self {
        let count = engine.depth().clamp(1, BOUNCES);
        let own = Pool::new(0).lease(count * PIECE_BYTES);
        let mut bounces = own.into_pieces(PIECE_BYTES);
        let registered = engine.register(&mut bounces);
        shared.with(|core| core.disks[dir].registered = registered);
        Self {
            dir,
            shared,
            engine,
            files,
            segments: Vec::new(),
            min_free_bytes,
            flights: HashMap::new(),
            flight_bytes: 0,
            pushed_bytes: 0,
            moved_bytes: 0,
            copied_bytes: 0,
            arrived: VecDeque::new(),
            next_op: 0,
            bounces,
            delayed: Vec::new(),
        }
    }

    /// Runs until the store is closed and all that was accepted is done.
    pub(super) fn run(mut self) {
        let mut done = Vec::new();
        loop {
            self.resume_delayed();
            self.start_some();
            if !self.arrived.is_empty() {
                // The disk goes on while what it gave is looked at.
                self.submit();
                self.take_in();
                continue;
            }
            if self.flights.is_empty() && self.shared.with(|core| core.is_drained()) {
                return;
            }
            let next = self.delayed.iter().map(|(at, _)| *at).min();
            let timeout = match self.may_copy() {
                true => next.map(|at| at.saturating_duration_since(Instant::now())),
                false => Some(Duration::ZERO),
            };
            self.pushed_bytes = 0;
            self.engine.wait(timeout, &mut done);
            for done in done.drain(..) {
                self.complete(done);
            }
        }
    }

    /// Returns whether answers from memory leave the disk its turn.
    fn may_copy(&self) -> bool {
        self.copied_bytes < SUBMIT_BYTES
    }

    /// Starts what there is to start; where something has arrived, not all of it at once, and of answers
    /// from memory never all, as there may be more of them without end.
    fn start_some(&mut self) {
        self.moved_bytes = 0;
        self.copied_bytes = 0;
        while self.moved_bytes < SUBMIT_BYTES || self.arrived.is_empty() {
            self.free_bounce();
            let Some(start) = self.pick() else {
                return;
            };
            self.start(start);
            if self.pushed_bytes >= SUBMIT_BYTES {
                self.submit();
            }
        }
    }

    fn submit(&mut self) {
        self.pushed_bytes = 0;
        self.engine.submit();
    }

    fn pick(&self) -> Option<Start> {
        let piece = PIECE_BYTES as u64;
        let room = Room {
            flight: self.flights.len() < self.engine.depth()
                && self.flight_bytes + piece <= FLIGHT_BYTES,
            bounce: !self.bounces.is_empty(),
            recall: self.may_copy(),
            now: Instant::now(),
        };
        self.shared.with(|core| {
            let disk = &mut core.disks[self.dir];
            disk.in_flight = self.flights.len();
            disk.in_flight_bytes = self.flight_bytes;
            core.pick(self.dir, room)
        })
    }

    fn start(&mut self, start: Start) {
        match start {
            Start::Grow(bytes) => {
                // The file system may take its time.
                self.submit();
                self.moved_bytes += SUBMIT_BYTES;
                let made = self.grow(bytes);
                let now = Instant::now();
                self.shared.with(|core| core.grown(self.dir, made, now));
            }
            Start::Write { parts, copy: true } => self.write_copy(parts),
            Start::Write { parts, copy: false } => self.write_in_place(parts),
            Start::Fetch(group) => self.fetch(group),
            Start::Read(part) => self.read(part),
            Start::Copy { read, len, lent } => {
                self.submit();
                self.moved_bytes += len as u64;
                self.copied_bytes += len as u64;
                self.copy(read, len, lent);
            }
        }
    }

    /// Makes a segment of `bytes` bytes, or of what the file system can spare of them.
    fn grow(&mut self, bytes: u64) -> io::Result<u64> {
        let free = self.files.free_bytes()?;
        let spare = free.saturating_sub(self.min_free_bytes);
        let least = bytes.min(LEAST_SEGMENT_BYTES);
        if spare < least {
            let text = format!(
                "{free} bytes are free: a segment of {least} would leave less than {}",
                self.min_free_bytes
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        let piece = PIECE_BYTES as u64;
        let bytes = bytes.min((spare / piece * piece).max(least));
        let file = self.files.create(bytes)?;
        self.segments.push(self.engine.add_file(file)?);
        Ok(bytes)
    }

    fn launch(&mut self, cargo: Cargo, memory: Piece, tail: Option<Piece>) {
        let (direction, extent) = match &cargo {
            Cargo::Write(parts) => (Direction::Write, parts[0].block.extent),
            Cargo::Read(parts) => (Direction::Read, parts[0].block.extent),
        };
        let bytes = memory.len() as u64;
        let id = self.next_op;
        self.next_op += 1;
        self.flight_bytes += bytes;
        self.pushed_bytes += bytes;
        self.moved_bytes += bytes;
        let flight = Flight {
            cargo,
            tail,
            tries: Tries::default(),
            began: Instant::now(),
            bytes,
        };
        self.flights.insert(id, flight);
        self.engine.push(Op {
            id,
            direction,
            file: self.segments[extent.segment as usize],
            offset: extent.offset,
            memory,
            skip: 0,
        });
    }

    fn complete(&mut self, done: Done) {
        let Done { mut op, result } = done;
        let Some(flight) = self.flights.get_mut(&op.id) else {
            return;
        };
        let verdict = retry::judge(&mut flight.tries, (op.memory.len(), op.skip), result);
        match verdict {
            Verdict::Complete => self.land(op, Ok(())),
            Verdict::Failed(error) => self.land(op, Err(Arc::new(error))),
            Verdict::Again { skip, short } => {
                self.count_retry(short);
                op.skip = skip;
                self.engine.push(op);
            }
            Verdict::Later(pause) => {
                self.count_retry(false);
                self.delayed.push((Instant::now() + pause, op));
            }
        }
    }

    fn count_retry(&self, short: bool) {
        self.shared.with(|core| match short {
            true => core.counters.short_transfers += 1,
            false => core.counters.retries += 1,
        });
    }

    /// An operation has ended for good.
    fn land(&mut self, op: Op, result: Result<(), Arc<io::Error>>) {
        let Some(flight) = self.flights.remove(&op.id) else {
            return;
        };
        self.flight_bytes -= flight.bytes;
        let took = flight.began.elapsed();
        if let Err(error) = &result {
            self.note_failure(error);
        } else {
            self.record(&flight, took);
        }
        match flight.cargo {
            Cargo::Write(parts) => self.land_write(parts, (op.memory, flight.tail), result),
            Cargo::Read(parts) => self.land_read(parts, (op.memory, flight.tail), result),
        }
    }

    fn record(&self, flight: &Flight, took: Duration) {
        self.shared.with(|core| {
            let traffic = match flight.cargo {
                Cargo::Write(_) => &mut core.counters.written,
                Cargo::Read(_) => &mut core.counters.read,
            };
            traffic.record(flight.bytes, took);
        });
    }

    /// A full file system is no fault of the disk; all else counts against it. Without its engine it
    /// is of no use.
    fn note_failure(&self, error: &Arc<io::Error>) {
        if Broken::is(error) {
            self.shared.with(|core| core.broke(self.dir, error));
        } else if error.kind() != io::ErrorKind::StorageFull {
            let (why, now) = (error.to_string(), Instant::now());
            self.shared.with(|core| core.failed(self.dir, &why, now));
        }
    }

    fn resume_delayed(&mut self) {
        let now = Instant::now();
        for (_, op) in self.delayed.extract_if(.., |(at, _)| *at <= now) {
            self.engine.push(op);
        }
    }

    /// Takes the first `bytes` bytes of one of its own buffers; the rest is for
    /// [`give_back`](Self::give_back).
    fn bounce(&mut self, bytes: usize) -> (Piece, Piece) {
        let mut piece = self
            .bounces
            .pop()
            .expect("the core was told that one is free");
        let tail = piece.split_off(bytes);
        (piece, tail)
    }

    fn give_back(&mut self, mut piece: Piece, tail: Piece) {
        piece.unsplit(tail);
        self.bounces.push(piece);
    }
}

#[cfg(test)]
mod tests;
