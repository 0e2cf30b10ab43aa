//! One bidirectional stream: many requests in flight, within limits of bytes and of count.
//!
//! `reserve -> submit -> ticket`. A [`Permit`] is the room that a request takes up, from before it
//! is sent until it is answered, whether or not somebody still waits for the answer.
//!
//! Invariant: every ticket resolves exactly once: by its reply, by its own failure, or by the one
//! error that ended the stream. Where that is a lost connection, requests that were not sent say so.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use forebay_proto::inference::ModelInferRequest;
use prost::Message as _;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

mod driver;
mod ledger;
mod options;
mod shared;

use ledger::{Deadline, Submission, WIRE_ID_BYTES};
pub use options::StreamOptions;
use shared::{Room, Shared};

use crate::{error::InferError, reply::Reply, request::Request, transport::Stub};

/// A stream of requests to one server, also for several models.
///
/// The stream lives as long as the session, one of its permits or one of its tickets. When the last
/// of them is dropped, what is not answered yet is cancelled. [`close`](Self::close) instead lets
/// all of it be answered.
///
/// The limits of [`StreamOptions`] are on requests that are not answered. Room comes back when an
/// answer arrives, whether or not it is taken: replies that lie in their tickets count for nothing.
/// Who submits all and awaits then has all answers in memory; take tickets as they come to bound that.
#[derive(Debug)]
pub struct Session {
    handle: Arc<Handle>,
}

/// Room for one request. Given back when the request is answered, or when this is dropped unused.
#[derive(Debug)]
#[must_use = "an unused permit holds room that other requests could use"]
pub struct Permit {
    handle: Arc<Handle>,
    room: Room,
    bytes: usize,
    reserved: Instant,
}

/// Resolves to the reply to one request.
///
/// It holds the reply, with its tensors, from when that arrives until it is taken or the ticket is
/// dropped; no limit of the session counts it.
///
/// # Cancel safety
/// A ticket can be polled, put aside and polled again. Dropping it forgets the reply and nothing
/// else: the request is still executed, its room is given back when it is answered, and others on
/// the stream are not affected.
#[derive(Debug)]
#[must_use = "the reply, or what went wrong, comes through the ticket"]
pub struct Ticket {
    reply: oneshot::Receiver<Result<Reply, InferError>>,
    _keeps_the_stream: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    max_message_bytes: usize,
    _driver: AbortOnDropHandle<()>,
}

impl Session {
    pub(crate) async fn open(
        service: Stub,
        options: StreamOptions,
        max_message_bytes: usize,
    ) -> Result<Self, InferError> {
        options.validate()?;
        let shared = Arc::new(Shared::new(&options));
        let driver = tokio::spawn(driver::run(
            service,
            Arc::clone(&shared),
            options.completion_order,
        ));
        let handle = Arc::new(Handle {
            shared,
            max_message_bytes,
            _driver: AbortOnDropHandle::new(driver),
        });
        handle.shared.opened().await?;
        Ok(Self { handle })
    }

    /// Waits for room for a request of `bytes` ([`Request::bytes`]). Waiters are served in turn.
    ///
    /// # Errors
    /// More bytes than may ever be in flight, or the stream has ended.
    ///
    /// # Cancel safety
    /// Dropping the future gives back what it got so far, and loses its place in the line.
    pub async fn reserve(&self, bytes: usize) -> Result<Permit, InferError> {
        let room = self.handle.shared.reserve(bytes).await?;
        Ok(Permit {
            handle: Arc::clone(&self.handle),
            room,
            bytes,
            reserved: Instant::now(),
        })
    }

    /// Waits for room for `request` and submits it.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    ///
    /// # Cancel safety
    /// Dropping the future drops the request, which was not submitted then.
    pub async fn submit(&self, request: Request) -> Result<Ticket, InferError> {
        Ok(self.reserve(request.bytes()).await?.submit(request))
    }

    /// Returns whether the stream has ended, so that requests need a new session.
    pub fn has_ended(&self) -> bool {
        self.handle.shared.has_ended()
    }

    /// Tells the server that no more requests come, and waits until all are answered and the stream
    /// has ended. Permits that were not used yet can no longer be submitted.
    ///
    /// # Errors
    /// The one error that ended the stream, which the unanswered tickets report too. Where it is
    /// [`InferError::ConnectionLost`], tickets whose requests were not sent report
    /// [`InferError::Unsent`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the session closed; the stream then ends with its last ticket.
    pub async fn close(self) -> Result<(), InferError> {
        self.handle.shared.close();
        self.handle.shared.ended().await
    }
}

impl Permit {
    /// Queues `request` for sending. Never blocks: the permit is its place in the queue.
    ///
    /// What is wrong with the request is reported by the ticket.
    pub fn submit(self, request: Request) -> Ticket {
        let (sender, reply) = oneshot::channel();
        let ticket = Ticket {
            reply,
            _keeps_the_stream: Arc::clone(&self.handle),
        };
        let bytes = request.bytes();
        if bytes > self.bytes {
            let reserved = self.bytes;
            // Fails only where the ticket is gone, which it is not yet.
            let _ = sender.send(Err(InferError::PermitTooSmall { bytes, reserved }));
            return ticket;
        }
        let deadline = request.timeout().and_then(|after| {
            let at = Instant::now().checked_add(after)?;
            Some(Deadline { at, after })
        });
        let message = ModelInferRequest::from(request.into_stream_message());
        let limit = self.handle.max_message_bytes.saturating_sub(WIRE_ID_BYTES);
        if let Err(error) = check_message_size(&message, limit) {
            let _ = sender.send(Err(error));
            return ticket;
        }
        self.handle.shared.submit(Submission {
            message,
            reserved: self.reserved,
            deadline,
            reply: sender,
            room: self.room,
        });
        ticket
    }

    /// Returns the bytes that were reserved.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Future for Ticket {
    type Output = Result<Reply, InferError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply)
            .poll(cx)
            .map(|reply| reply.unwrap_or(Err(InferError::Stopped)))
    }
}

/// Checks here what the encoder would only find when it is too late: its error ends the stream.
pub(crate) fn check_message_size(
    message: &ModelInferRequest,
    limit: usize,
) -> Result<(), InferError> {
    let bytes = message.encoded_len();
    if bytes > limit {
        return Err(InferError::MessageTooLarge { bytes, limit });
    }
    Ok(())
}
