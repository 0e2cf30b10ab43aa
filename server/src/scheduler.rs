//! The queue of one model: requests wait here until an instance has room for a batch.
//!
//! The decisions are pure ([`Batcher`], [`Sequences`]; time is an argument); this file adds the
//! lock, the clock and the waiting.
//!
//! Invariant: the queue is bounded in items here and in bytes by the permits that its jobs carry,
//! and whoever drops a [`Pending`] takes its job out of the queue at once.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use forebay_proto::SequenceId;
use tokio::sync::oneshot;

use crate::{
    error::Error,
    repository::Scheduling,
    request::{Answer, Job, Life},
};

mod batcher;
mod pace;
mod parking;
mod pending;
mod queued;
mod sequences;
mod soon;
mod stops;
mod waiters;
mod whereabouts;

pub use batcher::{Batcher, Decision, Policy, Size};
pub use pending::Pending;
pub use sequences::{Sequences, UnknownSequence};

use pace::Pace;
use queued::Queued;
use waiters::{Waiters, Wake};
use whereabouts::Whereabouts;

/// Identifies a job in its queue.
pub type Ticket = u64;

/// The queue of one model version.
#[derive(Debug)]
pub struct Scheduler {
    state: Mutex<State>,
    changed: Condvar,
    max_items: usize,
    /// Whether jobs share batches, so that their shapes matter.
    joins: bool,
    /// Why the model takes no more requests: its device has failed.
    failure: OnceLock<String>,
    /// Who parks requests, where any one does.
    overflow: OnceLock<parking::Overflow>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    closed: bool,
    waiters: Waiters,
    whereabouts: Whereabouts,
    pace: Pace,
    /// Since when an instance waits for requests that are on disk.
    stalled: Option<Instant>,
    /// How long instances waited for such.
    stalls: Duration,
    /// Whether the instances are to end, whatever is queued: they are made anew later.
    suspended: bool,
}

#[derive(Debug)]
enum Queue {
    Batches(Batcher<Queued>),
    Sequences(Sequences<Box<Job>>),
}

impl Scheduler {
    /// Makes an empty queue of at most `max_items` jobs for `instances` instances.
    pub fn new(
        scheduling: &Scheduling,
        max_batch: usize,
        instances: usize,
        max_items: usize,
    ) -> Self {
        let queue = match scheduling {
            Scheduling::Each => Queue::Batches(Batcher::new(Policy::each())),
            Scheduling::Dynamic(batching) => Queue::Batches(Batcher::new(Policy {
                max_rows: max_batch,
                preferred: batching.preferred_batch_sizes.clone(),
                max_delay: batching.max_queue_delay,
                // Nothing can be parked yet.
                max_bytes: u64::MAX,
                join: true,
            })),
            Scheduling::Sequence(sequences) => {
                Queue::Sequences(Sequences::new(instances, sequences.max_idle))
            }
        };
        Self {
            state: Mutex::new(State {
                queue,
                closed: false,
                waiters: Waiters::default(),
                whereabouts: Whereabouts::default(),
                pace: Pace::default(),
                stalled: None,
                stalls: Duration::ZERO,
                suspended: false,
            }),
            changed: Condvar::new(),
            max_items,
            joins: matches!(scheduling, Scheduling::Dynamic(_)),
            failure: OnceLock::new(),
            overflow: OnceLock::new(),
        }
    }

    /// Queues `job`; its answer arrives at `answer`.
    ///
    /// # Errors
    /// The queue is full or closed, or the job continues a sequence that is not there. The job is
    /// then dropped, unanswered: the error is its answer.
    pub fn submit(
        self: &Arc<Self>,
        job: impl Into<Box<Job>>,
        answer: oneshot::Receiver<Result<Answer, Error>>,
    ) -> Result<Pending, Error> {
        let job = job.into();
        let now = Instant::now();
        // Made before the lock is taken, and only where shapes matter.
        let shape = if self.joins {
            job.shape_key()
        } else {
            Vec::new()
        };
        let mut sequence = None;
        let bytes = self.parkable_bytes(&job);
        let has_company = soon::has_company(&job);
        let mut state = self.lock();
        if state.closed {
            return Err(match self.failure.get() {
                Some(reason) => stops::lost(&job, reason),
                None => Error::ShuttingDown,
            });
        }
        if state.queue.len() >= self.max_items {
            return Err(Error::QueueFull {
                model: job.model.clone(),
                limit: self.max_items,
            });
        }
        let State {
            queue, whereabouts, ..
        } = &mut *state;
        let ticket = match queue {
            Queue::Batches(batcher) => {
                let (rows, queued) = (job.rows, Queued::new(batcher.next_ticket(), job));
                let ticket = batcher.push(now, Size { rows, bytes }, shape, queued);
                if bytes > 0 {
                    whereabouts.insert(ticket, bytes);
                }
                ticket
            }
            Queue::Sequences(sequences) => {
                let Some(control) = job.sequence.clone() else {
                    return Err(Error::MissingSequence {
                        model: job.model.clone(),
                    });
                };
                let id = control.id.clone();
                match sequences.push(now, control, job) {
                    Ok(ticket) => {
                        sequence = sequences.life(&id).map(|life| (id, life));
                        ticket
                    }
                    Err(UnknownSequence(job)) => {
                        // As in `discard`: the job is dropped outside the lock.
                        drop(state);
                        return Err(missing_start(&job));
                    }
                }
            }
        };
        let wake = state.wake();
        drop(state);
        match has_company {
            true => self.tell_soon(wake),
            false => self.tell(wake),
        }
        if bytes > 0 {
            self.queued();
        }
        Ok(Pending {
            answer,
            scheduler: Some(Arc::clone(self)),
            ticket,
            sequence,
        })
    }

    fn tell(&self, wake: Wake) {
        match wake {
            Wake::Nobody => {}
            Wake::One => self.changed.notify_one(),
            Wake::All => self.changed.notify_all(),
        }
    }

    /// Waits until there is a batch for `instance` and returns it, in order of arrival. Returns
    /// `None` once the queue is closed and empty for this instance, or suspended.
    pub fn next(&self, instance: usize) -> Option<Vec<Box<Job>>> {
        let mut state = self.lock();
        loop {
            if state.suspended {
                return None;
            }
            let now = Instant::now();
            let closed = state.closed;
            let decision = match &mut state.queue {
                Queue::Batches(_) => state.take(now),
                Queue::Sequences(sequences) => {
                    // Nothing continues a sequence any more, so none holds a slot for that.
                    if closed {
                        sequences.end_idle();
                    }
                    sequences.poll(instance, now).map(|(life, mut job)| {
                        job.life = Some(life);
                        job
                    })
                }
            };
            let until = match decision {
                Decision::Ready(jobs) => {
                    // What is left may make a batch for another instance, which this wake-up took.
                    let wake = match state.queue.is_empty() && !closed {
                        true => Wake::Nobody,
                        false => state.wake(),
                    };
                    if state.whereabouts.any_away() {
                        self.advanced();
                    }
                    drop(state);
                    self.tell(wake);
                    return Some(jobs);
                }
                Decision::Idle if closed && state.queue.is_empty() => {
                    self.changed.notify_all();
                    return None;
                }
                Decision::Idle => None,
                Decision::Absent { until, .. } => {
                    self.advanced();
                    until
                }
                Decision::Until(until) => Some(until),
            };
            state.waiters.sleep();
            state = match until {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let timeout = until.saturating_duration_since(now);
                    let waited = self.changed.wait_timeout(state, timeout);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.waiters.get_up();
        }
    }

    /// Returns whether jobs share batches, whose rows are then independent of one another.
    pub fn joins(&self) -> bool {
        self.joins
    }

    /// Returns how many jobs wait.
    pub fn len(&self) -> usize {
        self.lock().queue.len()
    }

    /// Returns whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a job out of the queue. Returns whether it was still there.
    fn discard(&self, ticket: Ticket) -> bool {
        let mut state = self.lock();
        let (mut queued, mut job) = (None, None);
        match &mut state.queue {
            Queue::Batches(batcher) => queued = batcher.remove(ticket),
            Queue::Sequences(sequences) => job = sequences.remove(ticket),
        }
        state.whereabouts.remove(ticket);
        if state.whereabouts.any_away() {
            self.advanced();
        }
        // What is left may be nothing, for which a closed queue's instances wait, or may be in memory
        // where this one was not.
        if state.closed || state.stalled.is_some() {
            self.changed.notify_all();
        }
        drop(state);
        // Dropped outside the lock: a job frees its permit, which may wake others.
        queued.is_some() || job.is_some()
    }

    /// Notes that a job of a sequence which had left the queue is done with.
    fn settle(&self, (id, life): &(SequenceId, Life)) {
        if let Queue::Sequences(sequences) = &mut self.lock().queue
            && sequences.settle(id, *life, Instant::now())
        {
            self.changed.notify_all();
        }
    }

    /// A panic elsewhere leaves the queue whole: each change to it is complete before user code runs.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Finds who can take what waits: any one instance takes a batch, but a job of a sequence has
    /// only one taker.
    fn wake(&mut self) -> Wake {
        match self.queue {
            Queue::Batches(_) => self.waiters.wake_one(),
            Queue::Sequences(_) => self.waiters.wake_all(),
        }
    }

    /// Notes that no instance waits for requests on disk.
    fn end_stall(&mut self, now: Instant) {
        if let Some(since) = self.stalled.take() {
            self.stalls += now.saturating_duration_since(since);
            self.whereabouts.wait_for([]);
        }
    }

    /// Takes the next batch out, for an instance that has room.
    fn take(&mut self, now: Instant) -> Decision<Box<Job>> {
        let Queue::Batches(batcher) = &mut self.queue else {
            return Decision::Idle;
        };
        // At the end no company will come, so nothing waits for it.
        let decision = batcher.poll(now, self.closed, Queued::is_here);
        match &decision {
            Decision::Ready(batch) => {
                for queued in batch {
                    self.whereabouts.remove(queued.ticket);
                }
                self.pace.taken(now, batch.len(), batcher.len());
                let overtaken = batcher.take_overtaken();
                self.end_stall(now);
                // An older batch waits for some of these.
                self.whereabouts.wait_for(overtaken);
                return decision.map(|queued| queued.job);
            }
            Decision::Absent { needed, .. } => {
                self.whereabouts.wait_for(needed.iter().copied());
                self.stalled.get_or_insert(now);
                return decision.map(|queued| queued.job);
            }
            Decision::Until(_) | Decision::Idle => {}
        }
        self.end_stall(now);
        decision.map(|queued| queued.job)
    }
}

impl Queue {
    fn len(&self) -> usize {
        match self {
            Self::Batches(batcher) => batcher.len(),
            Self::Sequences(sequences) => sequences.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn missing_start(job: &Job) -> Error {
    let sequence = job.sequence.as_ref().map(|control| control.id.to_string());
    Error::MissingStart {
        model: job.model.clone(),
        sequence: sequence.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
