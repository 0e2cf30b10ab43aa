//! What is kept of each request.
//!
//! Invariant: every request that the load offered has exactly one record, whatever became of it.
//! All times are offsets from the start of the run, so that arithmetic on them needs no clock.

use std::time::Duration;

use forebay_client::{Code, ServerTimings};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A correct answer came.
    Ok,
    /// An error came, of this kind.
    Failed(Code),
    /// No answer came within the time allowed.
    TimedOut,
    /// No answer had come when the run ended.
    Unfinished,
    /// Never sent: as many requests as allowed were in flight.
    NotSent,
}

/// Where the server says that its time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stages {
    /// Waiting for a batch and for the device.
    pub queue: Duration,
    /// Of that, waiting for the model's weights; zero where they were in memory.
    pub residency: Duration,
    /// Of that, for how long the inputs were left on disk, if they were there.
    pub parked: Option<Duration>,
    /// Of that, how long their way back took.
    pub onboard: Option<Duration>,
    /// Copying the inputs to the device.
    pub h2d: Duration,
    /// Running the model.
    pub compute: Duration,
    /// Copying the outputs to the host.
    pub d2h: Duration,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Its place among all requests of the run, from 0.
    pub number: u64,
    /// When it should have been sent.
    pub intended: Duration,
    /// When the client handed it to the target, where it did: late is only what comes before.
    pub submitted: Option<Duration>,
    /// When the transport took it, where that is known. Until then the connection or the server, which
    /// need not read, held it back.
    pub sent: Option<Duration>,
    /// When the first byte of the answer was there.
    pub first: Option<Duration>,
    /// When the answer was whole, the error known, or the wait given up.
    pub done: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// The server's own account, if it gave one.
    pub stages: Option<Stages>,
}

impl Record {
    /// Returns the time from the intended send to the end: what a user waits.
    pub fn response(&self) -> Duration {
        self.done.saturating_sub(self.intended)
    }

    /// Returns the time from the send to the end: what the server and the network took.
    pub fn service(&self) -> Option<Duration> {
        Some(self.done.saturating_sub(self.sent?))
    }

    /// Returns how late the client was to hand it over.
    pub fn lag(&self) -> Option<Duration> {
        Some(self.submitted?.saturating_sub(self.intended))
    }

    /// Returns how long it was held back from there until the transport took it.
    pub fn held(&self) -> Option<Duration> {
        Some(self.sent?.saturating_sub(self.submitted?))
    }
}

impl From<ServerTimings> for Stages {
    fn from(timings: ServerTimings) -> Self {
        let ServerTimings {
            queue,
            residency,
            parked,
            onboard,
            h2d,
            compute,
            d2h,
        } = timings;
        Self {
            queue,
            residency,
            parked,
            onboard,
            h2d,
            compute,
            d2h,
        }
    }
}

impl Stages {
    /// Returns the sum of all stages.
    pub fn total(&self) -> Duration {
        self.queue + self.h2d + self.compute + self.d2h
    }
}
