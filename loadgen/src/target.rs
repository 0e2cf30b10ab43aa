//! What requests are sent to, reduced to the little that a runner needs of it.
//!
//! The real target is [`ClientTarget`](client::ClientTarget). Tests script their own, so that
//! stalls, overloads and errors happen exactly when a test says so.

pub mod client;

use std::{future::Future, time::Instant};

use crate::record::{Outcome, Stages};

/// A request about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// Its place among all requests of the run, from 0.
    pub number: u64,
    /// Its place in a sequence, if it is part of one.
    pub place: Option<Place>,
}

/// A place in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The sequence; never 0.
    pub sequence: u64,
    /// Whether the request opens it.
    pub start: bool,
    /// Whether the request closes it.
    pub end: bool,
}

/// What came of a [`Shot`].
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// When the request was handed to the transport; `None` where that is not known, which is so for
    /// failures: when the call began says nothing of when, or whether, it was sent.
    pub sent: Option<Instant>,
    /// When the first byte of the answer was there.
    pub first: Option<Instant>,
    /// When the answer was whole or the error known.
    pub done: Instant,
    /// `Ok`, `Failed` or `TimedOut`.
    pub outcome: Outcome,
    /// The server's own account, if it gave one.
    pub stages: Option<Stages>,
}

/// Sends requests.
pub trait Target: Send + Sync + 'static {
    /// Sends one request and waits for its end. The payload is ready beforehand: sending takes no
    /// time that depends on its size before the transport has it.
    fn send(&self, shot: Shot) -> impl Future<Output = Answer> + Send;
}
