//! The queue of one model: requests wait here until an instance has room for a batch.
//!
//! The decisions are pure ([`Batcher`], [`Sequences`]; time is an argument); this file adds the
//! lock, the clock and the waiting.
//!
//! Invariant: the queue is bounded in items here and in bytes by the permits that its jobs carry,
//! and whoever drops a [`Pending`] takes its job out of the queue at once.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use forebay_proto::SequenceId;
use tokio::sync::oneshot;

use crate::{
    error::Error,
    repository::Scheduling,
    request::{Answer, Job},
};

mod batcher;
mod sequences;

pub use batcher::{Batcher, Decision, Policy};
pub use sequences::{Sequences, UnknownSequence};

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
}

#[derive(Debug)]
struct State {
    queue: Queue,
    closed: bool,
    /// Whether the instances are to end, whatever is queued: they are made anew later.
    parked: bool,
}

#[derive(Debug)]
enum Queue {
    Batches(Batcher<Job>),
    Sequences(Sequences<Job>),
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
                parked: false,
            }),
            changed: Condvar::new(),
            max_items,
            joins: matches!(scheduling, Scheduling::Dynamic(_)),
            failure: OnceLock::new(),
        }
    }

    /// Queues `job`; its answer arrives at `answer`.
    ///
    /// # Errors
    /// The queue is full or closed, or the job continues a sequence that is not there. The job is
    /// then dropped, unanswered: the error is its answer.
    pub fn submit(
        self: &Arc<Self>,
        job: Job,
        answer: oneshot::Receiver<Result<Answer, Error>>,
    ) -> Result<Pending, Error> {
        let now = Instant::now();
        // Made before the lock is taken, and only where shapes matter.
        let shape = if self.joins {
            job.shape_key()
        } else {
            Vec::new()
        };
        let sequence = job.sequence.as_ref().map(|control| control.id.clone());
        let mut state = self.lock();
        if state.closed {
            return Err(match self.failure.get() {
                Some(reason) => lost(&job, reason),
                None => Error::ShuttingDown,
            });
        }
        if state.queue.len() >= self.max_items {
            return Err(Error::QueueFull {
                model: job.model.clone(),
                limit: self.max_items,
            });
        }
        let ticket = match &mut state.queue {
            Queue::Batches(batcher) => batcher.push(now, job.rows, shape, job),
            Queue::Sequences(sequences) => {
                let Some(control) = job.sequence.clone() else {
                    return Err(Error::MissingSequence {
                        model: job.model.clone(),
                    });
                };
                match sequences.push(now, control, job) {
                    Ok(ticket) => ticket,
                    Err(UnknownSequence(job)) => return Err(missing_start(&job)),
                }
            }
        };
        self.wake(&state.queue);
        drop(state);
        Ok(Pending {
            answer,
            scheduler: Some(Arc::clone(self)),
            ticket,
            sequence,
        })
    }

    /// Wakes who can take what waits: any one instance takes a batch, but a job of a sequence has
    /// only one taker.
    fn wake(&self, queue: &Queue) {
        match queue {
            Queue::Batches(_) => self.changed.notify_one(),
            Queue::Sequences(_) => self.changed.notify_all(),
        }
    }

    /// Waits until there is a batch for `instance` and returns it, in order of arrival. Returns
    /// `None` once the queue is closed and empty for this instance, or parked.
    pub fn next(&self, instance: usize) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            if state.parked {
                return None;
            }
            let now = Instant::now();
            let closed = state.closed;
            let decision = match &mut state.queue {
                // At the end no company will come, so nothing waits for it.
                Queue::Batches(batcher) => batcher.poll(now, closed),
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
                    if !state.queue.is_empty() || closed {
                        self.wake(&state.queue);
                    }
                    return Some(jobs);
                }
                Decision::Idle if closed && state.queue.is_empty() => {
                    self.changed.notify_all();
                    return None;
                }
                Decision::Idle => None,
                Decision::Until(until) => Some(until),
            };
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
        }
    }

    /// Takes no more jobs; those that are queued still run.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Gives out no more batches, so that the instances end. Jobs are queued as before.
    pub fn park(&self) {
        self.lock().parked = true;
        self.changed.notify_all();
    }

    /// Gives out batches again, to instances that were made anew.
    pub fn unpark(&self) {
        self.lock().parked = false;
    }

    /// Answers what is queued with errors, and goes on taking jobs. Sequences stay.
    pub fn refuse(&self, error: impl Fn(&Job) -> Error) {
        let mut jobs = Vec::new();
        if let Queue::Batches(batcher) = &mut self.lock().queue {
            while let Decision::Ready(batch) = batcher.poll(Instant::now(), true) {
                jobs.extend(batch);
            }
        }
        // Outside the lock, as in `discard`.
        for job in jobs {
            let error = error(&job);
            job.reply.send(Err(error));
        }
        // A closed queue's instances wait for it to be empty.
        self.changed.notify_all();
    }

    /// Takes no more jobs, and answers those that are queued: the model's device has failed for good.
    pub fn fail(&self, reason: &str) {
        // The first reason is the one.
        let _known = self.failure.set(reason.to_owned());
        let queue = {
            let mut state = self.lock();
            state.closed = true;
            // Nothing is pushed to it any more.
            let none = Queue::Batches(Batcher::new(Policy::each()));
            std::mem::replace(&mut state.queue, none)
        };
        self.changed.notify_all();
        // Outside the lock, as in `discard`.
        let jobs = match queue {
            Queue::Batches(batcher) => batcher.into_values(),
            Queue::Sequences(sequences) => sequences.into_values(),
        };
        for job in jobs {
            let error = lost(&job, reason);
            job.reply.send(Err(error));
        }
    }

    /// Returns why the model takes no more requests, where its device has failed.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
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
        let job = match &mut state.queue {
            Queue::Batches(batcher) => batcher.remove(ticket),
            Queue::Sequences(sequences) => sequences.remove(ticket),
        };
        // What is left may be nothing, for which a closed queue's instances wait.
        if state.closed {
            self.changed.notify_all();
        }
        drop(state);
        // Dropped outside the lock: a job frees its permit, which may wake others.
        job.is_some()
    }

    /// Notes that a job of a sequence which had left the queue is done with.
    fn settle(&self, sequence: &SequenceId) {
        if let Queue::Sequences(sequences) = &mut self.lock().queue
            && sequences.settle(sequence, Instant::now())
        {
            self.changed.notify_all();
        }
    }

    /// A panic elsewhere leaves the queue whole: each change to it is complete before user code runs.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The answer to a job, as a future.
///
/// # Cancel safety
/// Dropping it cancels the job: one that is queued leaves the queue at once, one that runs is
/// dropped at the next stage.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<Result<Answer, Error>>,
    /// Taken once the answer is there.
    scheduler: Option<Arc<Scheduler>>,
    ticket: Ticket,
    sequence: Option<SequenceId>,
}

impl Pending {
    /// Takes the job out of the queue. Returns whether it was still there; if not, it runs, and its
    /// answer comes.
    pub fn leave_queue(&mut self) -> bool {
        let scheduler = self.scheduler.as_ref();
        let left = scheduler.is_some_and(|scheduler| scheduler.discard(self.ticket));
        if left {
            self.scheduler = None;
        }
        left
    }
}

impl Future for Pending {
    type Output = Result<Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(Pin::new(&mut self.answer).poll(cx));
        if let (Some(scheduler), Some(sequence)) = (self.scheduler.take(), &self.sequence) {
            scheduler.settle(sequence);
        }
        // The sender never goes without an answer: see `request::Reply`.
        Poll::Ready(answer.unwrap_or(Err(Error::Lost)))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(scheduler) = self.scheduler.take()
            && !scheduler.discard(self.ticket)
            && let Some(sequence) = &self.sequence
        {
            scheduler.settle(sequence);
        }
    }
}

fn lost(job: &Job, reason: &str) -> Error {
    Error::DeviceLost {
        model: job.model.clone(),
        reason: reason.to_owned(),
    }
}

fn missing_start(job: &Job) -> Error {
    let sequence = job.sequence.as_ref().map(|control| control.id.to_string());
    Error::MissingStart {
        model: job.model.clone(),
        sequence: sequence.unwrap_or_default(),
    }
}
