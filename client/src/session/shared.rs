//! What the session, its permits and the two directions of its stream share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Instant,
};

use forebay_proto::inference::{ModelInferRequest, ModelStreamInferResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    ledger::{Ledger, Next, Settled, Submission},
    options::StreamOptions,
};
use crate::error::InferError;

/// The room that one request takes up.
#[derive(Debug)]
pub(crate) struct Room {
    _slot: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(crate) struct Shared {
    books: Mutex<Books>,
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_limit: usize,
    phase: watch::Sender<Phase>,
}

#[derive(Debug)]
struct Books {
    ledger: Ledger<Room>,
    /// The sending side, while it waits for something to send.
    sender: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    Ended,
}

impl Shared {
    pub(crate) fn new(options: &StreamOptions) -> Self {
        Self {
            books: Mutex::new(Books {
                ledger: Ledger::new(),
                sender: None,
            }),
            slots: Arc::new(Semaphore::new(options.requests_in_flight)),
            bytes: Arc::new(Semaphore::new(options.bytes_in_flight)),
            bytes_limit: options.bytes_in_flight,
            phase: watch::Sender::new(Phase::Opening),
        }
    }

    /// Waits for room for `bytes`.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Room, InferError> {
        // The semaphore counts what it gives out at once in 32 bits, as messages do.
        let limit = self.bytes_limit.min(u32::MAX as usize);
        let units = u32::try_from(bytes)
            .ok()
            .filter(|_| bytes <= limit)
            .ok_or(InferError::LargerThanLimit { bytes, limit })?;
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|_| self.books().ledger.refusal())?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(units).await;
        let bytes = bytes.map_err(|_| self.books().ledger.refusal())?;
        Ok(Room {
            _slot: slot,
            _bytes: bytes,
        })
    }

    pub(crate) fn submit(&self, submission: Submission<Room>) {
        let mut books = self.books();
        let refused = books.ledger.submit(submission);
        let sender = books.sender.take();
        drop(books);
        if let Some(settled) = refused {
            settled.deliver();
        }
        wake(sender);
    }

    /// Returns the next message to send, or registers `waker` for when there is one. `None` is the
    /// end.
    pub(crate) fn poll_next(&self, waker: &Waker) -> Poll<Option<ModelInferRequest>> {
        // The transport asks only when the stream is open.
        self.phase.send_if_modified(|phase| {
            let opening = *phase == Phase::Opening;
            if opening {
                *phase = Phase::Open;
            }
            opening
        });
        loop {
            let mut books = self.books();
            match books.ledger.next(Instant::now()) {
                Next::Send(message) => return Poll::Ready(Some(message)),
                Next::End => return Poll::Ready(None),
                Next::Wait => {
                    books.sender = Some(waker.clone());
                    return Poll::Pending;
                }
                Next::Expired(settled) => {
                    drop(books);
                    settled.deliver();
                }
            }
        }
    }

    pub(crate) fn settle(
        &self,
        message: ModelStreamInferResponse,
        first_byte: Option<Instant>,
    ) -> Result<(), InferError> {
        let done = Instant::now();
        let settled = self
            .books()
            .ledger
            .settle(message, first_byte.unwrap_or(done), done)?;
        settled.deliver();
        Ok(())
    }

    pub(crate) fn close(&self) {
        let mut books = self.books();
        books.ledger.close();
        let sender = books.sender.take();
        drop(books);
        wake(sender);
    }

    /// Ends the session with `outcome`, unless it has ended already.
    pub(crate) fn end(&self, outcome: Result<(), InferError>) {
        let mut books = self.books();
        let settled = books.ledger.end(outcome);
        let sender = books.sender.take();
        drop(books);
        // Closed before room is given back, so that no waiter gets room on a stream that is gone.
        self.slots.close();
        self.bytes.close();
        settled.into_iter().for_each(Settled::deliver);
        self.phase.send_replace(Phase::Ended);
        wake(sender);
    }

    /// Waits until the transport has opened the stream.
    pub(crate) async fn opened(&self) -> Result<(), InferError> {
        let mut phase = self.phase.subscribe();
        match phase
            .wait_for(|phase| *phase != Phase::Opening)
            .await
            .as_deref()
        {
            Ok(Phase::Open) => Ok(()),
            _ => Err(self.books().ledger.refusal()),
        }
    }

    /// Returns whether the session has ended. It has before any ticket reports that it did.
    pub(crate) fn has_ended(&self) -> bool {
        self.books().ledger.outcome().is_some()
    }

    /// Waits until the session has ended, and returns how.
    pub(crate) async fn ended(&self) -> Result<(), InferError> {
        // The sender lives as long as this borrow, so waiting cannot fail.
        let _ = self
            .phase
            .subscribe()
            .wait_for(|phase| *phase == Phase::Ended)
            .await;
        self.books()
            .ledger
            .outcome()
            .cloned()
            .unwrap_or(Err(InferError::Stopped))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(sender: Option<Waker>) {
    if let Some(waker) = sender {
        waker.wake();
    }
}
