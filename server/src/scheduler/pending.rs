//! The answer to a job that was queued.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use forebay_proto::SequenceId;
use tokio::sync::oneshot;

use super::{Scheduler, Ticket};
use crate::{
    error::Error,
    request::{Answer, Life},
};

/// The answer to a job, as a future.
///
/// # Cancel safety
/// Dropping it cancels the job: one that is queued leaves the queue at once, one that runs is
/// dropped at the next stage.
#[derive(Debug)]
pub struct Pending {
    pub(super) answer: oneshot::Receiver<Result<Answer, Error>>,
    /// Taken once the answer is there.
    pub(super) scheduler: Option<Arc<Scheduler>>,
    pub(super) ticket: Ticket,
    pub(super) sequence: Option<(SequenceId, Life)>,
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
