//! An engine around another one that fails as it is told: for tests, ours and those of users.
//!
//! What a fault does is real: bytes that a short write leaves out are not on the disk, and those
//! that a short read leaves out are overwritten in the memory. A caller that looks away loses.
//!
//! Invariant: each operation still comes back exactly once, with its memory as the caller left it
//! (a write) or as the fault made it (a read).

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Alarm, Broken, Direction, Done, Engine, FileId, Op};
use crate::memory::Piece;
use held::Held;

mod held;
pub mod plan;
#[cfg(test)]
mod tests;

pub use plan::Plan;

/// What stands in memory and on disk where a short transfer did not reach.
const POISON: u8 = 0xa5;

/// What happens to one operation.
#[derive(Debug, Clone, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    Pass,
    /// It fails with an error of the system, and no byte goes.
    Errno(i32),
    /// Its engine breaks down, and the kernel does not give its memory back.
    Break,
    /// It is short.
    Short {
        /// By how many bytes at least.
        by: usize,
        /// What the bytes that do go are rounded down to a multiple of; 1 leaves them as they are.
        round: usize,
    },
    /// It is done at once and comes back late.
    Hold(Until),
    /// One bit changes on its way, counted from the begin of the transfer and modulo its length.
    Flip {
        /// Which.
        bit: usize,
    },
}

/// How long a completion is held.
#[derive(Debug, Clone)]
pub enum Until {
    /// Until so many others have come back that were not back yet, or no others are left.
    Completed(usize),
    /// Until the gate opens.
    Open(Gate),
    /// So long, by the clock of the engine.
    After(Duration),
}

/// Holds completions back until it is opened, once and for all.
#[derive(Debug, Clone)]
pub struct Gate {
    open: Arc<AtomicBool>,
    alarm: Alarm,
}

/// How many operations met with what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nothing.
    pub passed: u64,
    /// An error.
    pub errors: u64,
    /// A short transfer.
    pub shorts: u64,
    /// A late completion.
    pub held: u64,
    /// A changed bit.
    pub flips: u64,
}

/// Tells a [`Faulty`] engine what to do, and what it did, from any thread.
#[derive(Debug, Clone)]
pub struct Control {
    shared: Arc<Mutex<Shared>>,
    alarm: Alarm,
}

/// What tells the time: the real one, or a test's own.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// An engine that fails as it is told. A wait may end early with nothing.
pub struct Faulty {
    inner: Box<dyn Engine>,
    shared: Arc<Mutex<Shared>>,
    clock: Clock,
    /// With the engine, by the number that it knows them by there.
    pending: HashMap<u64, Pending>,
    number: u64,
    held: Vec<Held>,
    /// Failed without the engine.
    failed: Vec<Done>,
}

struct Shared {
    plan: Plan,
    counts: Counts,
}

/// An operation at the inner engine.
#[derive(Debug)]
struct Pending {
    /// What the caller knows it by.
    id: u64,
    fault: Fault,
    /// What a write would have written behind where it was cut short.
    rest: Vec<u8>,
}

impl Faulty {
    /// Wraps an engine. Until [`Control::set`] says otherwise all is done by `plan`.
    pub fn new(inner: Box<dyn Engine>, plan: Plan, clock: Clock) -> (Self, Control) {
        let counts = Counts::default();
        let shared = Arc::new(Mutex::new(Shared { plan, counts }));
        let control = Control {
            shared: Arc::clone(&shared),
            alarm: inner.alarm(),
        };
        let engine = Self {
            inner,
            shared,
            clock,
            pending: HashMap::new(),
            number: 0,
            held: Vec::new(),
            failed: Vec::new(),
        };
        (engine, control)
    }

    /// Takes back from the inner engine what it has done.
    fn take_back(&mut self, done: Done, back: &mut Vec<Done>) {
        let Done { mut op, result } = done;
        let Some(pending) = self.pending.remove(&op.id) else {
            return back.push(op.done(result));
        };
        op.id = pending.id;
        let result = pending.undo(&mut op, result);
        match pending.fault {
            Fault::Hold(until) => {
                let now = (self.clock)();
                self.held.push(Held::new(op.done(result), until, now));
            }
            _ => back.push(op.done(result)),
        }
    }

    /// Hands back what is due; each that comes back behind the `seen` first counts for those that
    /// still wait.
    fn release(&mut self, back: &mut Vec<Done>, mut seen: usize) {
        loop {
            let others = back.len() - seen;
            seen = back.len();
            let now = (self.clock)();
            let idle = back.is_empty() && self.pending.is_empty();
            for held in mem::take(&mut self.held) {
                match held.release(others, now, idle) {
                    Ok(done) => back.push(done),
                    Err(held) => self.held.push(held),
                }
            }
            if back.len() == seen {
                return;
            }
        }
    }
}

impl Engine for Faulty {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn depth(&self) -> usize {
        self.inner.depth()
    }

    fn register(&mut self, buffers: &mut [Piece]) -> bool {
        self.inner.register(buffers)
    }

    fn add_file(&mut self, file: Arc<File>) -> io::Result<FileId> {
        self.inner.add_file(file)
    }

    fn push(&mut self, mut op: Op) {
        let fault = lock(&self.shared).decide(&op);
        if let Fault::Errno(errno) = fault {
            let error = io::Error::from_raw_os_error(errno);
            return self.failed.push(op.done(Err(error)));
        }
        if let Fault::Break = fault {
            let why = Broken("a test says so".to_owned());
            return self.failed.push(op.strand(why));
        }
        let pending = Pending::new(&mut op, fault);
        op.id = self.number;
        self.pending.insert(self.number, pending);
        self.number += 1;
        self.inner.push(op);
    }

    fn submit(&mut self) {
        self.inner.submit();
    }

    fn wait(&mut self, timeout: Option<Duration>, done: &mut Vec<Done>) {
        let mut back = mem::take(&mut self.failed);
        self.release(&mut back, 0);
        let seen = back.len();
        let now = (self.clock)();
        let due = self.held.iter().filter_map(|held| held.due(now)).min();
        let timeout = match (timeout, due) {
            _ if !back.is_empty() => Some(Duration::ZERO),
            (Some(timeout), Some(due)) => Some(timeout.min(due)),
            (timeout, due) => timeout.or(due),
        };
        let mut inner = Vec::new();
        self.inner.wait(timeout, &mut inner);
        for one in inner {
            self.take_back(one, &mut back);
        }
        self.release(&mut back, seen);
        done.append(&mut back);
    }

    fn alarm(&self) -> Alarm {
        self.inner.alarm()
    }
}

impl Control {
    /// Changes the plan, from the next operation on.
    pub fn set(&self, plan: Plan) {
        lock(&self.shared).plan = plan;
    }

    /// Returns what has been injected so far.
    pub fn counts(&self) -> Counts {
        lock(&self.shared).counts
    }

    /// Makes a closed gate for completions of this engine.
    pub fn gate(&self) -> Gate {
        Gate {
            open: Arc::default(),
            alarm: self.alarm.clone(),
        }
    }
}

impl Gate {
    /// Lets all pass that it held, and all that comes.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.alarm.ring();
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
}

impl Shared {
    fn decide(&mut self, op: &Op) -> Fault {
        let fault = (self.plan)(op);
        let counts = &mut self.counts;
        *match fault {
            Fault::Pass => &mut counts.passed,
            Fault::Errno(_) | Fault::Break => &mut counts.errors,
            Fault::Short { .. } => &mut counts.shorts,
            Fault::Hold(_) => &mut counts.held,
            Fault::Flip { .. } => &mut counts.flips,
        } += 1;
        fault
    }
}

impl Pending {
    /// Changes what is to be written as the fault wants it.
    fn new(op: &mut Op, fault: Fault) -> Self {
        let id = op.id;
        let mut rest = Vec::new();
        if op.direction == Direction::Write {
            flip(op, &fault);
            if let Some(cut) = cut(op, &fault) {
                rest = op.memory[cut..].to_vec();
                op.memory[cut..].fill(POISON);
            }
        }
        Self { id, fault, rest }
    }

    /// Puts what was written back as it was, or changes what was read. Returns the fault's result.
    fn undo(&self, op: &mut Op, result: io::Result<usize>) -> io::Result<usize> {
        flip(op, &self.fault);
        let Some(cut) = cut(op, &self.fault) else {
            return result;
        };
        match op.direction {
            Direction::Write => op.memory[cut..].copy_from_slice(&self.rest),
            Direction::Read => op.memory[cut..].fill(POISON),
        }
        result.map(|bytes| bytes.min(cut - op.skip))
    }
}

fn flip(op: &mut Op, fault: &Fault) {
    let Fault::Flip { bit } = fault else { return };
    let Some(memory) = op.memory.get_mut(op.skip..) else {
        return;
    };
    if !memory.is_empty() {
        let bit = bit % (memory.len() * 8);
        memory[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Returns where in the memory a short transfer ends.
fn cut(op: &Op, fault: &Fault) -> Option<usize> {
    let Fault::Short { by, round } = *fault else {
        return None;
    };
    let bytes = op.memory.len().checked_sub(op.skip)?.saturating_sub(by);
    Some(op.skip + bytes - bytes % round.max(1))
}

/// The state stays whole when a plan panics: the counts are behind it.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty")
            .field("inner", &self.inner)
            .field("pending", &self.pending)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
