//! Runs a load against a target and records what became of each request.
//!
//! [`open`] sends when a schedule says so, whatever the target does; [`closed`] keeps a number of
//! requests in flight. Both share [`Flight`], which owns everything that is in flight.

pub mod closed;
mod flight;
#[cfg(test)]
mod judged;
pub mod open;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timing;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

pub use flight::Flight;

use crate::{progress::Progress, record::Record};

/// What bounds a run's requests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests in flight at once.
    pub max_in_flight: usize,
    /// Time from the send in which an answer must come.
    pub timeout: Duration,
    /// Time after the last arrival in which answers are still waited for.
    pub grace: Duration,
}

/// What a run is made of.
#[derive(Debug)]
pub struct Setup<T> {
    /// Where requests go.
    pub target: Arc<T>,
    /// What bounds them.
    pub limits: Limits,
    /// The start; every recorded time is an offset from it.
    pub origin: Instant,
    /// Where the state of the run is published.
    pub progress: watch::Sender<Progress>,
}

/// What is left of a run.
#[derive(Debug)]
pub struct Finished {
    /// One record for each request offered, in no particular order.
    pub records: Vec<Record>,
    /// Requests that the load offered, counted on their own, as a check on the records.
    pub offered: u64,
    /// When arrivals ended, from the start.
    pub arrivals_ended: Duration,
    /// Why they ended.
    pub end: End,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The load was offered whole.
    Complete,
    /// It was stopped before.
    Stopped,
    /// So many requests failed one after the other that it was given up.
    GivenUp(u64),
}
