//! Answers a second, and over which time.
//!
//! A closed loop is full from the start of its window to the end, so it is credited with what ended in
//! there, whenever that was offered. By the requests of the window it would be too little: answers to
//! those of the warm-up come within it and would not count, and the drain, in which the load falls,
//! would. Other loads have no such window and are credited with what was offered, over the time until
//! all of it was answered.
//!
//! Invariant: no rate is over a window for a part of which nothing was offered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Summary;
use crate::runner::End;

/// What a rate of answers is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The measured window: the answers that ended in it.
    Window,
    /// The time that the measured requests took: the answers to them.
    Span,
}

/// How a load was offered.
#[derive(Debug, Clone, Copy)]
pub struct Offering {
    /// Whether requests were sent by a schedule.
    pub open: bool,
    /// Time at the start that is not measured.
    pub warmup: Duration,
    /// The length of the measured window, if it was to have one.
    pub duration: Option<Duration>,
    /// Requests that were to be measured at most.
    pub requests: Option<u64>,
    /// When arrivals ended, from the start.
    pub arrivals_ended: Duration,
    /// Why they ended.
    pub end: End,
}

/// Rates of one run, each `None` where there is no time to take it over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Requests offered a second, from the end of the warm-up to the last arrival.
    pub offered: Option<f64>,
    /// Correct answers a second. The headline.
    pub answered: Option<f64>,
    /// What the headline is taken over.
    pub basis: Basis,
    /// How long that is.
    pub over: Duration,
    /// Correct answers in the measured window a second; `None` also where it was not offered whole.
    pub in_window: Option<f64>,
}

impl Throughput {
    /// Returns the rates of what `summary` sums up.
    pub fn of(summary: &Summary, offering: &Offering) -> Self {
        let counts = &summary.counts;
        let window = offering.window(counts.offered);
        let in_window = summary
            .window_ok
            .zip(window)
            .and_then(|(ok, length)| rate(ok, length));
        let (answered, basis, over) = match window {
            Some(length) if !offering.open && in_window.is_some() => {
                (in_window, Basis::Window, length)
            }
            _ => (
                summary.span.rate(counts.ok),
                Basis::Span,
                summary.span.length(),
            ),
        };
        let arriving = offering.arrivals_ended.saturating_sub(offering.warmup);
        Self {
            offered: rate(counts.offered, arriving),
            answered,
            basis,
            over,
            in_window,
        }
    }
}

impl Offering {
    /// Returns the length of the window, if the load was offered for all of it: neither was it ended
    /// before, nor were its `measured` requests all that it was allowed.
    fn window(&self, measured: u64) -> Option<Duration> {
        let used_up = self.requests.is_some_and(|limit| measured >= limit);
        self.duration
            .filter(|_| self.end == End::Complete && !used_up)
    }
}

fn rate(count: u64, length: Duration) -> Option<f64> {
    (!length.is_zero()).then(|| count as f64 / length.as_secs_f64())
}
