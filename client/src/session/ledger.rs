//! The books of a session: what is queued, what is on its way, and how it ended.
//!
//! No I/O and no clock. What must be told is returned as [`Settled`], to be delivered when no lock
//! is held.
//!
//! Invariant: the room of a request is given back when it is settled and not before, and only what
//! was sent can be settled by a reply; so the queue is bounded by the room there is. What was not sent
//! when the connection is lost, or when its deadline passes, is settled with an error that says so.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use forebay_proto::{
    StreamReply,
    inference::{ModelInferRequest, ModelStreamInferResponse},
};
use tokio::sync::oneshot;

use crate::{
    code::Code,
    error::InferError,
    reply::{Reply, Timings},
    request::{TIMEOUT, timeout_parameter},
};

/// Bytes that an id of the ledger's own adds to a message, at most.
pub(crate) const WIRE_ID_BYTES: usize = 32;

/// A request on its way in, with the room `R` that it takes up.
pub(crate) struct Submission<R> {
    pub(crate) message: ModelInferRequest,
    pub(crate) reserved: Instant,
    /// Until when the message may be sent. It carries the whole timeout then, so that the time left
    /// makes it no longer.
    pub(crate) deadline: Option<Deadline>,
    pub(crate) reply: oneshot::Sender<Result<Reply, InferError>>,
    pub(crate) room: R,
}

/// When a request is too late to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    /// The timeout that it comes from.
    pub(crate) after: Duration,
}

/// An outcome for one ticket.
#[must_use = "a ticket waits for it"]
pub(crate) struct Settled<R> {
    reply: oneshot::Sender<Result<Reply, InferError>>,
    outcome: Result<Reply, InferError>,
    _room: R,
}

impl<R> Settled<R> {
    /// Tells the ticket, if it is still there, and gives back the room.
    pub(crate) fn deliver(self) {
        // Nobody waits for a dropped ticket's reply.
        let _ = self.reply.send(self.outcome);
    }
}

#[derive(Debug)]
pub(crate) struct Ledger<R> {
    queue: VecDeque<Queued>,
    /// By the id on the wire.
    open: HashMap<String, Entry<R>>,
    submitted: u64,
    state: State,
}

#[derive(Debug)]
struct Queued {
    message: ModelInferRequest,
    deadline: Option<Deadline>,
}

#[derive(Debug)]
struct Entry<R> {
    caller_id: String,
    model: String,
    order: u64,
    reserved: Instant,
    sent: Option<Instant>,
    reply: oneshot::Sender<Result<Reply, InferError>>,
    room: R,
}

impl<R> Entry<R> {
    fn fail(self, error: InferError) -> Settled<R> {
        Settled {
            reply: self.reply,
            outcome: Err(error),
            _room: self.room,
        }
    }
}

#[derive(Debug)]
enum State {
    Open,
    Closing,
    Ended(Result<(), InferError>),
}

/// What the sending side is to do.
pub(crate) enum Next<R> {
    Send(ModelInferRequest),
    /// To deliver this, as its request was too late to be sent, and to ask again.
    Expired(Settled<R>),
    Wait,
    End,
}

impl<R> Ledger<R> {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            open: HashMap::new(),
            submitted: 0,
            state: State::Open,
        }
    }

    /// Queues a request; where nothing more is taken, returns it settled.
    pub(crate) fn submit(&mut self, submission: Submission<R>) -> Option<Settled<R>> {
        let Submission {
            mut message,
            reserved,
            deadline,
            reply,
            room,
        } = submission;
        if !matches!(self.state, State::Open) {
            return Some(Settled {
                reply,
                outcome: Err(self.refusal()),
                _room: room,
            });
        }
        self.submitted += 1;
        let caller_id = message.id.clone();
        let mut serial = self.submitted;
        while message.id.is_empty() || self.open.contains_key(&message.id) {
            message.id = format!("fb-{serial}");
            // Only a caller that makes up the same ids brings this to more than one round.
            serial = serial.wrapping_add(1 << 32);
        }
        let entry = Entry {
            caller_id,
            model: message.model_name.clone(),
            order: self.submitted,
            reserved,
            sent: None,
            reply,
            room,
        };
        self.open.insert(message.id.clone(), entry);
        self.queue.push_back(Queued { message, deadline });
        None
    }

    /// Returns what to send at `now`.
    pub(crate) fn next(&mut self, now: Instant) -> Next<R> {
        if let State::Ended(_) = self.state {
            return Next::End;
        }
        if let Some(queued) = self.queue.pop_front() {
            return self.send(queued, now);
        }
        match self.state {
            State::Open => Next::Wait,
            State::Closing | State::Ended(_) => Next::End,
        }
    }

    /// Notes that a message is sent at `now`, with the time it has left, if it has any.
    fn send(&mut self, queued: Queued, now: Instant) -> Next<R> {
        let Queued {
            mut message,
            deadline,
        } = queued;
        if let Some(Deadline { at, after }) = deadline {
            let left = at.saturating_duration_since(now);
            if left.is_zero()
                && let Some(entry) = self.open.remove(&message.id)
            {
                return Next::Expired(entry.fail(InferError::Expired { after }));
            }
            let left = timeout_parameter(left).into();
            message.parameters.insert(TIMEOUT.to_owned(), left);
        }
        if let Some(entry) = self.open.get_mut(&message.id) {
            entry.sent = Some(now);
        }
        Next::Send(message)
    }

    /// Settles the request that `message` answers.
    ///
    /// # Errors
    /// No open request has its id; the stream is then to be ended with that error.
    pub(crate) fn settle(
        &mut self,
        mut message: ModelStreamInferResponse,
        first_byte: Instant,
        done: Instant,
    ) -> Result<Settled<R>, InferError> {
        let failed = !message.error_message.is_empty();
        let response = message.infer_response.get_or_insert_default();
        let (entry, sent) = self.take(&response.id, failed)?;
        // Servers name the request in front of the text; its caller knows it by another id.
        if failed && let Some(text) = message.error_message.strip_prefix(&naming(&response.id)) {
            message.error_message = naming(&entry.caller_id) + text;
        }
        response.id = entry.caller_id;
        let timings = Timings {
            reserved: entry.reserved,
            sent,
            first_byte,
            done,
        };
        let outcome = match StreamReply::try_from(message) {
            Ok(StreamReply::Answer(response)) => Ok(Reply::new(response, timings)),
            Ok(StreamReply::Failure { message, code, .. }) => Err(InferError::Failed {
                model: entry.model,
                code: code.map_or(Code::Unknown, Code::from_i32),
                message,
            }),
            Err(source) => Err(source.into()),
        };
        Ok(Settled {
            reply: entry.reply,
            outcome,
            _room: entry.room,
        })
    }

    fn take(&mut self, id: &str, failed: bool) -> Result<(Entry<R>, Instant), InferError> {
        let unexpected = || InferError::UnexpectedReply { id: id.to_owned() };
        let id = if id.is_empty() && failed {
            // Servers may fail a request before they know its id; they do that in order.
            let sent = self.open.iter().filter(|(_, entry)| entry.sent.is_some());
            let (id, _) = sent
                .min_by_key(|(_, entry)| entry.order)
                .ok_or_else(unexpected)?;
            id.clone()
        } else {
            id.to_owned()
        };
        let sent = self.open.get(&id).and_then(|entry| entry.sent);
        let sent = sent.ok_or_else(unexpected)?;
        let entry = self.open.remove(&id).ok_or_else(unexpected)?;
        Ok((entry, sent))
    }

    /// Takes no more requests; what is queued is still sent.
    pub(crate) fn close(&mut self) {
        if let State::Open = self.state {
            self.state = State::Closing;
        }
    }

    /// Ends the session. The first outcome stays; all open requests are settled with it, those that
    /// were not sent with what it means for them.
    pub(crate) fn end(&mut self, outcome: Result<(), InferError>) -> Vec<Settled<R>> {
        if let State::Ended(_) = self.state {
            return Vec::new();
        }
        let error = match outcome {
            Ok(()) if matches!(self.state, State::Closing) && self.open.is_empty() => {
                self.state = State::Ended(Ok(()));
                return Vec::new();
            }
            Ok(()) => InferError::EndedEarly,
            Err(error) => error,
        };
        self.state = State::Ended(Err(error.clone()));
        self.queue.clear();
        let unsent = self.refusal();
        let open = self.open.drain();
        open.map(|(_, entry)| {
            let error = match entry.sent {
                Some(_) => error.clone(),
                None => unsent.clone(),
            };
            entry.fail(error)
        })
        .collect()
    }

    /// Returns how the session ended, if it has.
    pub(crate) fn outcome(&self) -> Option<&Result<(), InferError>> {
        match &self.state {
            State::Ended(outcome) => Some(outcome),
            State::Open | State::Closing => None,
        }
    }

    /// Returns why a request is not sent.
    pub(crate) fn refusal(&self) -> InferError {
        match &self.state {
            State::Ended(Err(InferError::ConnectionLost { source })) => InferError::Unsent {
                source: Arc::clone(source),
            },
            State::Ended(Err(error)) => error.clone(),
            State::Open | State::Closing | State::Ended(Ok(())) => InferError::Closed,
        }
    }
}

/// How Triton and Forebay name a request that failed.
fn naming(id: &str) -> String {
    if id.is_empty() {
        String::new()
    } else {
        format!("[request id: {id}] ")
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
