//! Transfers by plain positional reads and writes, on a few threads: for where io_uring is missing.
//!
//! Invariant: an operation is in the queue, with one worker, or among the done; never elsewhere.

use std::{
    collections::VecDeque,
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Alarm, Direction, Done, Engine, FileId, Op, no_such_file, too_deep};
use crate::memory::Piece;

/// How many transfers run at once. More threads gained nothing on the disks that were measured.
const MAX_THREADS: usize = 16;

/// What one worker does with an operation.
type Transfer = fn(&mut Op, &File) -> io::Result<usize>;

#[derive(Debug)]
pub(super) struct Psync {
    shared: Arc<Shared>,
    files: Vec<Arc<File>>,
    depth: usize,
    /// Operations pushed and not yet handed back.
    in_flight: usize,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// There is work, or no more will come.
    work: Condvar,
    /// Something is done, or the alarm rings.
    news: Condvar,
}

/// Both queues are bounded by the depth.
#[derive(Default)]
struct State {
    queue: VecDeque<(Op, Arc<File>)>,
    done: Vec<Done>,
    rang: bool,
    closed: bool,
}

impl Psync {
    /// Makes an engine for `depth` operations in flight.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(super) fn new(depth: usize) -> io::Result<Self> {
        Self::with(depth, transfer)
    }

    fn with(depth: usize, transfer: Transfer) -> io::Result<Self> {
        let mut engine = Self {
            shared: Arc::default(),
            files: Vec::new(),
            depth,
            in_flight: 0,
            workers: Vec::new(),
        };
        for number in 0..depth.min(MAX_THREADS) {
            let shared = Arc::clone(&engine.shared);
            let worker = thread::Builder::new()
                .name(format!("fb-spill-io-{number}"))
                .spawn(move || shared.work(transfer))?;
            engine.workers.push(worker);
        }
        Ok(engine)
    }
}

impl Shared {
    /// The state stays whole when a holder of the lock panics: every update is one step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, transfer: Transfer) {
        while let Some((mut op, file)) = self.next() {
            let result = transfer(&mut op, &file);
            self.finish(op.done(result));
        }
    }

    fn next(&self) -> Option<(Op, Arc<File>)> {
        let idle = |state: &mut State| state.queue.is_empty() && !state.closed;
        let state = self.work.wait_while(self.lock(), idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        state.queue.pop_front()
    }

    fn finish(&self, done: Done) {
        self.lock().done.push(done);
        self.news.notify_one();
    }

    fn ring(&self) {
        self.lock().rang = true;
        self.news.notify_one();
    }

    /// Sleeps until there is news or the deadline passes.
    fn wait(&self, deadline: Option<Instant>) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.done.is_empty() && !state.rang {
            state = match deadline {
                None => (self.news.wait(state)).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let woken = self.news.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state
    }
}

impl Engine for Psync {
    fn name(&self) -> &'static str {
        "psync"
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn register(&mut self, _: &mut [Piece]) -> bool {
        false
    }

    fn add_file(&mut self, file: Arc<File>) -> io::Result<FileId> {
        let index = u32::try_from(self.files.len()).map_err(io::Error::other)?;
        self.files.push(file);
        Ok(FileId(index))
    }

    fn push(&mut self, op: Op) {
        let file = usize::try_from(op.file.0).ok();
        let file = file.and_then(|file| self.files.get(file));
        let result = match (file, op.range()) {
            (Some(_), Ok(_)) if self.in_flight >= self.depth => Err(too_deep(self.depth)),
            (Some(file), Ok(_)) => Ok(Arc::clone(file)),
            (None, _) => Err(no_such_file(op.file)),
            (_, Err(error)) => Err(error),
        };
        self.in_flight += 1;
        match result {
            Ok(file) => {
                self.shared.lock().queue.push_back((op, file));
                self.shared.work.notify_one();
            }
            Err(error) => self.shared.finish(op.done(Err(error))),
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, done: &mut Vec<Done>) {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.shared.wait(deadline);
        state.rang = false;
        self.in_flight -= state.done.len();
        done.append(&mut state.done);
    }

    fn alarm(&self) -> Alarm {
        let shared = Arc::clone(&self.shared);
        Alarm::new(move || shared.ring())
    }
}

impl Drop for Psync {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing in flight any more.
            let _ = worker.join();
        }
        // An alarm may keep the state for longer, not the memory.
        let mut state = self.shared.lock();
        state.queue.clear();
        state.done.clear();
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            news: Condvar::new(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

fn transfer(op: &mut Op, file: &File) -> io::Result<usize> {
    let (offset, _) = op.range()?;
    let memory = &mut op.memory[op.skip..];
    match op.direction {
        Direction::Read => file.read_at(memory, offset),
        Direction::Write => file.write_at(memory, offset),
    }
}

#[cfg(test)]
mod tests;
