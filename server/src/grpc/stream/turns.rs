//! The answers of one stream, in the order in which they are sent.
//!
//! Outputs come back from disk one answer at a time. Meanwhile the other requests go on, so that
//! their deadlines do not wait for a disk, nor answers that need none where order allows it.
//!
//! Invariant: what was pushed is returned once; no more outputs than those of one answer come back
//! at a time.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{
    StreamExt,
    stream::{FuturesOrdered, FuturesUnordered},
};

/// What waits for an answer.
pub(super) type Reply<T> = Pin<Box<dyn Future<Output = Turn<T>> + Send>>;

/// What brings outputs back.
pub(super) type Collecting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An answer whose turn it is.
pub(super) enum Turn<T> {
    Here(T),
    /// Its outputs may have left memory. They come back only now that the client reads.
    Shelved(Collecting<T>),
}

/// Answers that are awaited.
pub(super) struct Turns<T> {
    running: Running<T>,
    /// Answers that came while outputs came back. With those that run, they are no more than were
    /// pushed.
    ready: VecDeque<Turn<T>>,
    /// The answer that is sent next, while its outputs come back.
    collecting: Option<Collecting<T>>,
}

enum Running<T> {
    InOrder(FuturesOrdered<Reply<T>>),
    AsFinished(FuturesUnordered<Reply<T>>),
}

impl<T> Turns<T> {
    /// Awaits none yet. They are returned in the order in which they are pushed.
    pub(super) fn in_order() -> Self {
        Self::of(Running::InOrder(FuturesOrdered::new()))
    }

    /// Awaits none yet. They are returned as they finish.
    pub(super) fn as_finished() -> Self {
        Self::of(Running::AsFinished(FuturesUnordered::new()))
    }

    fn of(running: Running<T>) -> Self {
        Self {
            running,
            ready: VecDeque::new(),
            collecting: None,
        }
    }

    /// Returns how many are not yet returned.
    pub(super) fn len(&self) -> usize {
        let running = match &self.running {
            Running::InOrder(replies) => replies.len(),
            Running::AsFinished(replies) => replies.len(),
        };
        running + self.ready.len() + usize::from(self.collecting.is_some())
    }

    /// Awaits one more.
    pub(super) fn push(&mut self, reply: Reply<T>) {
        match &mut self.running {
            Running::InOrder(replies) => replies.push_back(reply),
            Running::AsFinished(replies) => replies.push(reply),
        }
    }

    /// Returns the next answer that can be sent; `None` where none is awaited.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            if let Some(collecting) = &mut self.collecting {
                let Poll::Ready(answer) = collecting.as_mut().poll(cx) else {
                    return self.poll_others(cx);
                };
                self.collecting = None;
                return Poll::Ready(Some(answer));
            }
            let turn = match self.ready.pop_front() {
                Some(turn) => Some(turn),
                None => ready!(self.running.poll_next(cx)),
            };
            match turn {
                Some(Turn::Here(answer)) => return Poll::Ready(Some(answer)),
                Some(Turn::Shelved(collecting)) => self.collecting = Some(collecting),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Lets the others go on while outputs come back. Returns an answer that need not wait for them.
    fn poll_others(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        while let Poll::Ready(Some(turn)) = self.running.poll_next(cx) {
            match (turn, &self.running) {
                (Turn::Here(answer), Running::AsFinished(_)) => return Poll::Ready(Some(answer)),
                (turn, _) => self.ready.push_back(turn),
            }
        }
        Poll::Pending
    }
}

impl<T> Running<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Turn<T>>> {
        match self {
            Self::InOrder(replies) => replies.poll_next_unpin(cx),
            Self::AsFinished(replies) => replies.poll_next_unpin(cx),
        }
    }
}

#[cfg(test)]
mod tests;
