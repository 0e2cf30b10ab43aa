//! A request body that asks before it hands on a message.
//!
//! Invariant: no frame that it yields reaches beyond the end of one message, so that the next
//! permit is asked for only once tonic wants another message, and at most one is held for a message
//! that no handler has seen.
//!
//! A prefix is handed on by itself. tonic then makes room for exactly the message; what it had read of
//! a message before it knew the length would be room on top, in which the next message begins, and
//! two messages in one allocation keep one another's memory.
//!
//! A message to infer is not handed on at all but gathered here, and goes to the handler with its permit;
//! tonic sees an empty one in its place.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use forebay_proto::framing::{FrameEvent, FrameScanner, PREFIX_BYTES};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::incoming::Incoming;
use super::progress::{Progress, Timer};
use super::refusal::forget;
use super::{Admitted, Gate, MessagePermits, Policy, Verdict};
use crate::admission::{Permit, Refusal, Reserve};

/// What is yielded when no data is.
type Ending = Option<Result<Frame<Bytes>, Status>>;

/// What tonic sees of a message that was gathered.
const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; PREFIX_BYTES]);

/// A request's body with each message's bytes reserved before its prefix is let through.
///
/// It fails with the [`Status`] that the call is to end with: RESOURCE_EXHAUSTED for a message that
/// is not let in, DEADLINE_EXCEEDED for one that stands still or crawls, and for a call that does not end
/// behind it, INVALID_ARGUMENT for one cut short.
#[derive(Debug)]
pub struct AdmissionBody<B> {
    /// `None` once the call was refused.
    inner: Option<B>,
    gate: Gate,
    policy: Policy,
    permits: MessagePermits,
    scanner: FrameScanner,
    /// Received and not yet handed on.
    pending: Bytes,
    /// Bytes at the front of `pending` that the scanner has seen.
    scanned: usize,
    /// The message in `pending` stands in line.
    waiting: Option<Reserve>,
    /// Of the message that is coming in. It goes back with the body if the rest never comes.
    current: Option<Admitted>,
    /// Whether a message has begun.
    has_begun: bool,
    /// The last piece of a unary call's message, until the call has ended: tonic decodes the message with it,
    /// and would hold what that makes for as long as the call stays open.
    last: Option<Bytes>,
    /// How the call ended, behind that piece.
    ending: Option<Ending>,
    /// Bytes of the message that is coming in, behind its prefix.
    length: u64,
    /// Whether they are gathered rather than handed on.
    is_gathered: bool,
    incoming: Option<Incoming>,
    /// When the prefix of the message that is coming in came.
    arrived: std::time::Instant,
    /// Runs while a message is expected to move, or a call to end behind it.
    progress: Progress,
    /// Runs while a message is in line that may not be for as long as it takes.
    patience: Option<Timer>,
    failed: bool,
}

impl<B> AdmissionBody<B> {
    pub(super) fn new(inner: B, gate: Gate, policy: Policy, permits: MessagePermits) -> Self {
        let progress = Progress::new(gate.progress_timeout);
        let patience = (policy == Policy::WaitForRoom).then(|| Timer::new(gate.unary_wait));
        Self {
            inner: Some(inner),
            gate,
            policy,
            permits,
            scanner: FrameScanner::default(),
            pending: Bytes::new(),
            scanned: 0,
            waiting: None,
            current: None,
            has_begun: false,
            last: None,
            ending: None,
            length: 0,
            is_gathered: false,
            incoming: None,
            arrived: std::time::Instant::now(),
            progress,
            patience,
            failed: false,
        }
    }

    /// Cuts what may be handed on from the front of `pending`; `None` where more must come first.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(reserve) = &mut self.waiting {
                let permit = match Pin::new(reserve).poll(cx) {
                    Poll::Ready(permit) => permit,
                    Poll::Pending => {
                        let Some(patience) = &mut self.patience else {
                            return Poll::Pending;
                        };
                        ready!(patience.poll(cx));
                        // Out of line, so that its own place does not refuse it.
                        self.waiting = None;
                        self.gate.budget.try_reserve(self.length)
                    }
                };
                let permit = permit.map_err(|error| self.gate.exhausted(error))?;
                self.waiting = None;
                if let Some(prefix) = self.let_in(Some(permit)) {
                    return Poll::Ready(Ok(Some(prefix)));
                }
            }
            let (taken, event) = self.scanner.scan(&self.pending[self.scanned..]);
            self.scanned += taken;
            match event {
                None => return Poll::Ready(Ok(self.pass())),
                Some(FrameEvent::End) => {
                    self.progress.restart();
                    let last = match self.length {
                        0 => Some(self.prefix()),
                        _ => self.pass(),
                    };
                    let message = self.incoming.take().and_then(Incoming::whole);
                    let shown = last.or_else(|| message.as_ref().map(|_| EMPTY_MESSAGE));
                    // No handler claims a control message: its bytes are held until the next one begins.
                    if self.policy != Policy::Control
                        && let Some(admitted) = self.current.take()
                    {
                        self.permits.push(Admitted {
                            message,
                            ..admitted
                        });
                    }
                    if self.policy == Policy::WaitForRoom {
                        self.last = shown;
                        return Poll::Ready(Ok(None));
                    }
                    return Poll::Ready(Ok(shown));
                }
                Some(FrameEvent::Prefix { compressed, length }) => {
                    self.progress.restart();
                    self.current = None;
                    if std::mem::replace(&mut self.has_begun, true)
                        && self.policy == Policy::WaitForRoom
                    {
                        // tonic would read on for ever, and nobody would claim what it reads.
                        let text = "ModelInfer takes one message; use ModelStreamInfer for more";
                        return Poll::Ready(Err(Status::unimplemented(text)));
                    }
                    self.arrived = std::time::Instant::now();
                    self.length = length.into();
                    // A compressed message is tonic's to refuse.
                    self.is_gathered = !compressed && length > 0 && self.policy != Policy::Control;
                    if let Some(patience) = &mut self.patience {
                        patience.stop();
                    }
                    let permit = match self.gate.admit(self.length, self.policy)? {
                        Verdict::Free => None,
                        Verdict::Admitted(permit) => Some(permit),
                        Verdict::Waits(reserve) => {
                            self.waiting = Some(reserve);
                            continue;
                        }
                    };
                    if let Some(prefix) = self.let_in(permit) {
                        return Poll::Ready(Ok(Some(prefix)));
                    }
                }
            }
        }
    }

    /// Returns the prefix of a message that was let in, where it is to be handed on before the rest.
    fn let_in(&mut self, permit: Option<Permit>) -> Option<Bytes> {
        self.current = permit.map(|permit| Admitted::new(permit, self.arrived));
        if self.is_gathered {
            drop(self.hand_on());
            let length = usize::try_from(self.length).expect("a prefix has 32 bits for it");
            self.incoming = Some(Incoming::new(&self.gate.pool, length));
            return None;
        }
        (self.length > 0).then(|| self.prefix())
    }

    /// Hands on a prefix, the pieces of which may have been scanned one by one.
    fn prefix(&mut self) -> Bytes {
        let scanned = self.hand_on();
        match scanned.len() {
            PREFIX_BYTES => scanned,
            _ => Bytes::copy_from_slice(&self.scanner.prefix()),
        }
    }

    /// Hands on what was scanned, or gathers it; a prefix waits until it is whole.
    fn pass(&mut self) -> Option<Bytes> {
        let scanned = self.hand_on();
        if self.scanner.is_mid_prefix() {
            return None;
        }
        let Some(incoming) = &mut self.incoming else {
            return Some(scanned);
        };
        incoming.put(&scanned);
        None
    }

    /// Returns whether the end of the call is all that may come: memory is held until then.
    fn is_to_end(&self) -> bool {
        match self.policy {
            Policy::Wait => false,
            Policy::WaitForRoom => self.has_begun,
            Policy::Control => self.current.is_some(),
        }
    }

    fn hand_on(&mut self) -> Bytes {
        self.pending.split_to(std::mem::take(&mut self.scanned))
    }
}

impl<B> AdmissionBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<tonic::codegen::StdError>,
{
    fn poll_guarded(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(ending) = self.ending.take() {
            return Poll::Ready(ending);
        }
        loop {
            if self.pending.is_empty() {
                match ready!(self.poll_data(cx)) {
                    ControlFlow::Continue(data) => self.pending = data,
                    ControlFlow::Break(ending @ Some(Err(_))) => return Poll::Ready(ending),
                    ControlFlow::Break(ending) => {
                        let Some(last) = self.last.take() else {
                            return Poll::Ready(ending);
                        };
                        self.ending = Some(ending);
                        return Poll::Ready(Some(Ok(Frame::data(last))));
                    }
                }
            } else if let Some(piece) = ready!(self.poll_piece(cx))? {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
    }

    /// Reads data, or how the body ends.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<Ending, Bytes>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(ControlFlow::Break(None));
        };
        let frame = match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending if self.scanner.is_mid_message() || self.is_to_end() => {
                let stalled = ready!(self.progress.poll(self.scanner.is_mid_message(), cx));
                self.gate.budget.count(Refusal::Progress);
                return Poll::Ready(ControlFlow::Break(Some(Err(stalled))));
            }
            Poll::Pending => return Poll::Pending,
        };
        let ending = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                self.progress.moved(data.len(), self.length);
                return Poll::Ready(ControlFlow::Continue(data));
            }
            Some(Ok(Err(trailers))) => Some(Ok(trailers)),
            Some(Err(error)) => Some(Err(Status::from_error(error.into()))),
            None => None,
        };
        if self.scanner.is_mid_message() && !matches!(ending, Some(Err(_))) {
            let cut_short = Status::invalid_argument("the request ended inside a message");
            return Poll::Ready(ControlFlow::Break(Some(Err(cut_short))));
        }
        Poll::Ready(ControlFlow::Break(ending))
    }
}

impl<B> Body for AdmissionBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(None);
        }
        let frame = ready!(this.poll_guarded(cx));
        if let Some(Err(_)) = &frame {
            this.failed = true;
            this.waiting = None;
            this.current = None;
            this.incoming = None;
            this.last = None;
            if let Some(inner) = this.inner.take() {
                tokio::spawn(forget(inner));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let owes_nothing = self.pending.is_empty()
            && self.last.is_none()
            && self.ending.is_none()
            && !self.scanner.is_mid_message();
        let has_ended = self.inner.as_ref().is_none_or(Body::is_end_stream);
        self.failed || (owes_nothing && has_ended)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
