//! Transfers by io_uring: one ring, driven by one thread that sleeps when nothing happens.
//!
//! All that was pushed goes to the kernel in one call, which also waits. Files are registered, and
//! buffers where the limit of locked memory allows it. Never polled: this machine has other work.
//!
//! Invariant: the kernel is given no memory but that of operations in the table, and the table
//! outlives the ring's use of it. If the kernel does not give it back, it is leaked.

use std::{
    fmt,
    fs::File,
    io::{self, IoSliceMut},
    mem,
    os::fd::AsRawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::{event::PollFlags, io::Errno};

use super::{Alarm, Broken, Direction, Done, Engine, FileId, Op, no_such_file, too_deep};
use crate::memory::Piece;
use bell::Bell;
use breakdown::{Breakdown, GLANCE};
use table::Table;

mod bell;
mod breakdown;
mod setup;
mod table;
#[cfg(test)]
mod tests;

/// What the armed poll of the bell completes as; operations complete as their place.
const BELL: u64 = u64::MAX;

/// How long the kernel gets to find the memory that it lacked for an operation.
const BACK_OFF: Duration = Duration::from_millis(1);

pub(super) struct Uring {
    ring: IoUring,
    table: Table,
    /// Stay open as long as the engine: the kernel knows them by their index.
    files: Vec<Arc<File>>,
    /// How many buffers are registered.
    buffers: u16,
    bell: Bell,
    /// Whether the ring polls the bell.
    armed: bool,
    enabled: bool,
    /// Entries in the submission queue, oldest first.
    staged: Vec<u64>,
    /// Operations that ended without the kernel.
    ended: Vec<Done>,
    /// Why the ring is of no use any more.
    broken: Option<Breakdown>,
}

impl Uring {
    /// Makes an engine for `depth` operations in flight. The thread that waits first drives it.
    ///
    /// # Errors
    /// The kernel has no io_uring, does not allow it here, or has no memory for it.
    pub(super) fn new(depth: usize) -> io::Result<Self> {
        let entries = u32::try_from(depth + 1).map_err(|_| Errno::INVAL)?;
        Ok(Self {
            ring: setup::ring(entries.next_power_of_two())?,
            table: Table::new(depth),
            files: Vec::new(),
            buffers: 0,
            bell: Bell::new()?,
            armed: false,
            enabled: false,
            staged: Vec::new(),
            ended: Vec::new(),
            broken: None,
        })
    }

    fn prepare(&self, op: &mut Op) -> io::Result<squeue::Entry> {
        if let Some(broken) = &self.broken {
            return Err(broken.why.clone().into());
        }
        let known = usize::try_from(op.file.0).is_ok_and(|file| file < self.files.len());
        if !known {
            return Err(no_such_file(op.file));
        }
        entry(op, self.buffers)
    }

    /// Puts an entry into the submission queue.
    #[expect(unsafe_code, reason = "the kernel is given the address of memory")]
    fn stage(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry is the bell's, which has no memory, or of an operation in the table,
        // which keeps its memory until the completion has been reaped: see the module's invariant.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("the queue has an entry for each place of the table and the bell");
        self.staged.push(entry.get_user_data());
    }

    /// Has the ring polling the bell.
    fn arm(&mut self) {
        if !mem::replace(&mut self.armed, true) {
            let flags = u32::from(PollFlags::IN.bits());
            let poll = opcode::PollAdd::new(types::Fd(self.bell.fd()), flags).build();
            self.stage(&poll.user_data(BELL));
        }
    }

    /// Makes the calling thread the one that drives the ring.
    fn enable(&mut self) {
        if !self.enabled && self.broken.is_none() {
            match self.ring.submitter().register_enable_rings() {
                Ok(()) => self.enabled = true,
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Submits all entries and waits for `want` completions. What passes by itself is no error.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let result = match timeout.map(types::Timespec::from) {
            Some(timeout) => {
                let args = types::SubmitArgs::new().timespec(&timeout);
                submitter.submit_with_args(want, &args)
            }
            None => submitter.submit_and_wait(want),
        };
        let left = self.ring.submission().len();
        self.staged.drain(..self.staged.len().saturating_sub(left));
        match result.map_err(|error| (Errno::from_io_error(&error), error)) {
            Ok(_) | Err((Some(Errno::TIME | Errno::INTR), _)) => Ok(()),
            Err((Some(Errno::AGAIN | Errno::BUSY | Errno::NOMEM), _)) => {
                std::thread::sleep(BACK_OFF);
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    /// Adds what has completed to `done`. Returns whether the bell rang. A write that a broken ring
    /// ends has failed: nothing reads it back.
    fn reap(&mut self, done: &mut Vec<Done>) -> bool {
        let mut rang = false;
        for completion in self.ring.completion() {
            let result = completion.result();
            if completion.user_data() == BELL {
                self.armed = false;
                rang |= self.bell.silence();
            } else if let Some(op) = self.table.take(completion.user_data()) {
                let error = |_| io::Error::from_raw_os_error(result.saturating_neg());
                let result = match &self.broken {
                    Some(broken) if op.direction == Direction::Write => {
                        Err(broken.why.clone().into())
                    }
                    _ => usize::try_from(result).map_err(error),
                };
                done.push(op.done(result));
            }
        }
        rang
    }

    /// Gives the ring up: what the kernel has not taken ends with the error, and so does all that
    /// comes. What it has taken stays in the table for a while, see [`salvage`](Self::salvage).
    fn fail(&mut self, error: &io::Error) {
        tracing::error!(%error, "io_uring is of no use any more");
        let why = Broken(error.to_string());
        for place in mem::take(&mut self.staged) {
            let op = self.table.take(place);
            let ended = op.map(|op| op.done(Err(why.clone().into())));
            self.ended.extend(ended);
        }
        self.broken = Some(Breakdown::new(why, Instant::now()));
    }
}

impl Engine for Uring {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn depth(&self) -> usize {
        self.table.depth()
    }

    #[expect(unsafe_code, reason = "the kernel is given the addresses of memory")]
    fn register(&mut self, buffers: &mut [Piece]) -> bool {
        let Ok(count @ 1..) = u16::try_from(buffers.len()) else {
            return false;
        };
        let parts: Vec<_> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        // SAFETY: `IoSliceMut` is laid out as the system's `iovec`, and `parts` lives on below.
        let parts = unsafe { std::slice::from_raw_parts(parts.as_ptr().cast(), parts.len()) };
        // SAFETY: registering locks the pages until the ring goes, whatever becomes of the memory;
        // only an operation that owns its memory names a registered buffer.
        let result = unsafe { self.ring.submitter().register_buffers(parts) };
        if let Err(error) = result {
            tracing::info!(%error, "buffers are not registered: see `ulimit -l`");
            return false;
        }
        self.buffers = count;
        for (slot, buffer) in (0..).zip(buffers) {
            buffer.register(slot);
        }
        true
    }

    fn add_file(&mut self, file: Arc<File>) -> io::Result<FileId> {
        let index = u32::try_from(self.files.len()).map_err(|_| Errno::NFILE)?;
        let submitter = self.ring.submitter();
        submitter.register_files_update(index, &[file.as_raw_fd()])?;
        self.files.push(file);
        Ok(FileId(index))
    }

    fn push(&mut self, mut op: Op) {
        let entry = match self.prepare(&mut op) {
            Ok(entry) => entry,
            Err(error) => return self.ended.push(op.done(Err(error))),
        };
        match self.table.insert(op) {
            Ok(place) => self.stage(&entry.user_data(place)),
            Err(op) => self.ended.push(op.done(Err(too_deep(self.depth())))),
        }
    }

    fn submit(&mut self) {
        self.enable();
        if self.broken.is_none()
            && !self.staged.is_empty()
            && let Err(error) = self.enter(0, None)
        {
            self.fail(&error);
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, done: &mut Vec<Done>) {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let before = done.len();
        let mut rang = false;
        self.enable();
        loop {
            done.append(&mut self.ended);
            rang |= self.salvage(done);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let woken = rang || done.len() > before;
            // Outside of the ring an idle thread does not count as one that waits for the disk.
            if self.table.is_empty() || self.broken.is_some() {
                if woken
                    || self.bell.sleep(self.nap(left))
                    || left.is_some_and(|left| left.is_zero())
                {
                    return;
                }
                continue;
            }
            self.arm();
            if let Err(error) = self.enter(usize::from(!woken), left) {
                self.fail(&error);
            }
            rang |= self.reap(done);
            let over = rang || done.len() > before || left.is_some_and(|left| left.is_zero());
            if over && self.ring.submission().is_empty() {
                return;
            }
        }
    }

    fn alarm(&self) -> Alarm {
        self.bell.alarm()
    }
}

/// Describes the operation to the kernel. Its memory is not touched from here to the completion.
fn entry(op: &mut Op, buffers: u16) -> io::Result<squeue::Entry> {
    let (offset, bytes) = op.range()?;
    let file = types::Fixed(op.file.0);
    let slot = op.memory.slot().filter(|slot| *slot < buffers);
    let memory = op.memory[op.skip..].as_mut_ptr();
    Ok(match (op.direction, slot) {
        (Direction::Read, Some(slot)) => opcode::ReadFixed::new(file, memory, bytes, slot)
            .offset(offset)
            .build(),
        (Direction::Write, Some(slot)) => opcode::WriteFixed::new(file, memory, bytes, slot)
            .offset(offset)
            .build(),
        (Direction::Read, None) => opcode::Read::new(file, memory, bytes)
            .offset(offset)
            .build(),
        (Direction::Write, None) => opcode::Write::new(file, memory, bytes)
            .offset(offset)
            .build(),
    })
}

impl Drop for Uring {
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.enabled && !self.table.is_empty() {
            if self.broken.is_some() {
                self.salvage(&mut done);
                self.bell.sleep(Some(GLANCE));
            } else if let Err(error) = self.enter(1, None) {
                self.fail(&error);
            }
            self.reap(&mut done);
        }
        if self.broken.as_ref().is_some_and(|broken| broken.stranded) {
            // Old kernels would wait here for what they do not give back.
            return;
        }
        // Else the kernel gives files and locked memory back some time after the ring has gone.
        let _ = self.ring.submitter().unregister_files();
        let _ = self.ring.submitter().unregister_buffers();
    }
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring")
            .field("table", &self.table)
            .field("files", &self.files.len())
            .field("buffers", &self.buffers)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
