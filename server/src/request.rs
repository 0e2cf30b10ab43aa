//! A request inside the server.
//!
//! A [`Job`] is the one value that moves down the pipe. It owns what the request holds (tensors,
//! budget) and the duty to answer.
//!
//! Invariant: each job is answered exactly once. [`Reply`] sees to it: dropped without an answer,
//! it answers with an error.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use forebay_proto::{SequenceControl, Tensor};
use tokio::sync::oneshot;

use crate::{
    admission::Permit,
    error::Error,
    parking::{Claim, Parking, Shelf},
    residency::Lease,
};

/// One life of a sequence, from a start to the next. Never used twice.
pub type Life = u64;

/// A request inside the server. It goes from hand to hand in a box, since it is large.
#[derive(Debug)]
pub struct Job {
    /// The model's name, for errors.
    pub model: String,
    /// Inputs in the order of the signature; `None` where an optional one was left out.
    pub inputs: Vec<Option<Tensor>>,
    /// Rows of the batch dimension; 1 where the model has none.
    pub rows: usize,
    /// When the answer is no longer wanted.
    pub deadline: Option<Instant>,
    /// When it has been queued for too long. Who awaits it has it leave the queue then; its client may
    /// keep that one from looking.
    pub queue_until: Option<Instant>,
    /// The sequence it belongs to.
    pub sequence: Option<SequenceControl>,
    /// The life of that sequence, known once the job leaves the queue.
    pub life: Option<Life>,
    /// The host memory it holds.
    pub permit: Option<Permit>,
    /// Where its time went so far.
    pub timings: Timings,
    /// Where its answer goes.
    pub reply: Reply,
}

/// Outputs in the order of the signature, or in the one asked for, and where the time went.
#[derive(Debug)]
pub struct Answer {
    /// The outputs; none where they wait on a shelf.
    pub outputs: Vec<Tensor>,
    /// The right to those that do.
    pub claim: Option<Claim>,
    /// Whether they lie in one block with outputs of other requests.
    pub shares_memory: bool,
    /// Where the time went.
    pub timings: Timings,
    /// When it was there. Its reader may come for it later.
    pub at: Instant,
}

/// Where a request's time went. Feeds statistics, spans and the reply alike.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// When its message asked for memory.
    pub arrived: Instant,
    /// When it was queued.
    pub queued: Instant,
    /// When its batch was formed.
    pub batched: Option<Instant>,
    /// When its inputs were on disk.
    pub parked: Option<Parking>,
    /// How long of that it waited for the model's weights.
    pub residency: Duration,
    /// When each stage ended.
    pub stages: Option<Stages>,
}

/// When the stages of a batch ended, and what they took on the device.
#[derive(Debug, Clone, Copy)]
pub struct Stages {
    /// When the stage H2D began.
    pub began: Instant,
    /// Time of copying to the device.
    pub h2d: Duration,
    /// Time of the forward pass.
    pub compute: Duration,
    /// Time of copying from the device.
    pub d2h: Duration,
    /// When the outputs were on the host.
    pub ended: Instant,
}

impl Answer {
    /// Returns an answer whose outputs are in memory.
    pub fn new(outputs: Vec<Tensor>, timings: Timings) -> Self {
        Self {
            outputs,
            claim: None,
            shares_memory: false,
            timings,
            at: Instant::now(),
        }
    }
}

impl Timings {
    /// Starts the clock of a request whose message asked for memory at `arrived`.
    pub fn new(arrived: Instant) -> Self {
        Self {
            arrived,
            queued: Instant::now(),
            batched: None,
            parked: None,
            residency: Duration::ZERO,
            stages: None,
        }
    }

    /// Returns how long the request was queued, up to now if it still is.
    pub fn queue(&self) -> Duration {
        let until = self.batched.unwrap_or_else(Instant::now);
        until.saturating_duration_since(self.queued)
    }
}

impl Job {
    /// Returns the shapes without the batch dimension, one after the other: jobs that agree in
    /// them can share a batch.
    pub fn shape_key(&self) -> Vec<i64> {
        let mut key = Vec::with_capacity(8);
        for input in &self.inputs {
            let dims = input
                .as_ref()
                .map_or(&[][..], |tensor| tensor.shape().dims());
            key.push(i64::try_from(dims.len()).unwrap_or(i64::MAX));
            key.extend(dims.get(1..).unwrap_or_default());
        }
        key
    }

    /// Returns whether its answer is still wanted.
    pub fn is_live(&self, now: Instant) -> bool {
        let late = self.deadline.is_some_and(|deadline| now >= deadline);
        !late && !self.reply.is_cancelled()
    }

    /// Returns the job as it leaves the queue, if it was not there for too long and its answer is still
    /// wanted; answers it otherwise.
    pub fn in_time(self: Box<Self>, now: Instant) -> Option<Box<Self>> {
        let job = self.live(now)?;
        if job.queue_until.is_some_and(|until| now >= until) {
            job.reply.send(Err(Error::QueueTimeout));
            return None;
        }
        Some(job)
    }

    /// Returns the job if its answer is still wanted; answers it otherwise.
    pub fn live(self: Box<Self>, now: Instant) -> Option<Box<Self>> {
        if self.reply.is_cancelled() {
            self.reply.send(Err(Error::Cancelled));
            return None;
        }
        match self.deadline {
            Some(deadline) if now >= deadline => {
                self.reply.send(Err(Error::DeadlineExceeded));
                None
            }
            _ => Some(self),
        }
    }
}

/// Where a job's answer goes.
#[derive(Debug)]
pub struct Reply {
    sender: Option<oneshot::Sender<Result<Answer, Error>>>,
    /// Says that the model is in use, where it may leave memory.
    lease: Option<Lease>,
    /// Where outputs wait for who reads them, where they may leave memory.
    shelf: Option<Arc<Shelf>>,
    /// Names of the outputs asked for; empty means all.
    wanted: Vec<String>,
}

impl Reply {
    /// Makes the two ends of an answer's way.
    pub fn channel() -> (Self, oneshot::Receiver<Result<Answer, Error>>) {
        let (sender, receiver) = oneshot::channel();
        let reply = Self {
            sender: Some(sender),
            lease: None,
            shelf: None,
            wanted: Vec::new(),
        };
        (reply, receiver)
    }

    /// Holds `lease` until the job is answered.
    #[must_use]
    pub fn holding(mut self, lease: Option<Lease>) -> Self {
        self.lease = lease;
        self
    }

    /// Lets the outputs wait on `shelf`.
    #[must_use]
    pub fn shelving(mut self, shelf: Option<Arc<Shelf>>) -> Self {
        self.shelf = shelf;
        self
    }

    /// Drops all outputs but those named in `wanted`, unless that is empty.
    #[must_use]
    pub fn picking(mut self, wanted: Vec<String>) -> Self {
        self.wanted = wanted;
        self
    }

    /// Returns how long a job that was queued at `queued`, and runs from `now`, waited for the model's
    /// weights.
    pub fn waited(&self, queued: Instant, now: Instant) -> Duration {
        let lease = self.lease.as_ref();
        lease.map_or(Duration::ZERO, |lease| lease.waited(queued, now))
    }

    /// Answers the job.
    pub fn send(mut self, answer: Result<Answer, Error>) {
        let answer = answer.map(|answer| self.shelve(answer));
        if let Some(sender) = self.sender.take() {
            // The caller may have gone; then nobody wants the answer.
            let _unwanted = sender.send(answer);
        }
    }

    /// Keeps what was asked for, on the shelf if there is one.
    fn shelve(&self, mut answer: Answer) -> Answer {
        // First, so that what nobody reads takes neither memory nor disk.
        let outputs = select(answer.outputs, &self.wanted);
        let outputs = match &self.shelf {
            Some(shelf) => shelf.put(outputs, tokio::time::Instant::now()),
            None => Err(outputs),
        };
        (answer.outputs, answer.claim) = match outputs {
            Ok(claim) => (Vec::new(), Some(claim)),
            Err(outputs) => (outputs, None),
        };
        answer
    }

    /// Returns whether the caller has gone.
    pub fn is_cancelled(&self) -> bool {
        self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            let _unwanted = sender.send(Err(Error::Lost));
        }
    }
}

/// Picks the outputs named, in that order; all where no name is given.
fn select(mut all: Vec<Tensor>, names: &[String]) -> Vec<Tensor> {
    if names.is_empty() {
        return all;
    }
    let pick = |name: &String| {
        let place = all.iter().position(|tensor| tensor.name() == name)?;
        Some(all.swap_remove(place))
    };
    names.iter().filter_map(pick).collect()
}

#[cfg(test)]
impl Job {
    /// Makes a job of one row, and where its answer comes.
    pub(crate) fn of(
        inputs: Vec<Option<Tensor>>,
    ) -> (Self, oneshot::Receiver<Result<Answer, Error>>) {
        let (reply, answer) = Reply::channel();
        let job = Self {
            model: "m".to_owned(),
            inputs,
            rows: 1,
            deadline: None,
            queue_until: None,
            sequence: None,
            life: None,
            permit: None,
            timings: Timings::new(Instant::now()),
            reply,
        };
        (job, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_dropped_is_still_answered() {
        let (reply, mut answer) = Reply::channel();
        drop(reply);
        assert!(matches!(answer.try_recv(), Ok(Err(Error::Lost))));
    }
}
