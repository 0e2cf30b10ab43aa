//! Answers a second as they are reported.

use serde::{Deserialize, Serialize};

use crate::stats::{Basis, Span, Throughput};

/// Answers a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThroughputReport {
    /// Requests offered a second, from the end of the warm-up to the last arrival.
    pub offered_per_s: Option<f64>,
    /// Correct answers a second, over what `basis` says: the measured window of a closed loop that
    /// was offered for all of it, else the span.
    pub requests_per_s: Option<f64>,
    /// The same in inferences.
    pub inferences_per_s: Option<f64>,
    /// What these two are taken over.
    pub basis: Basis,
    /// Seconds of that.
    pub basis_s: f64,
    /// Seconds from the first intended send to the end of the last answer, correct or not, or to the
    /// last intended send where that is later.
    pub span_s: f64,
    /// Correct answers that ended in the measured window, over its length; null where the load was
    /// not offered for all of it.
    pub window_requests_per_s: Option<f64>,
}

impl ThroughputReport {
    /// Reports `throughput`, of requests of `batch` inferences that took `span`.
    pub fn new(throughput: &Throughput, span: Span, batch: u64) -> Self {
        let requests = throughput.answered;
        Self {
            offered_per_s: throughput.offered,
            requests_per_s: requests,
            inferences_per_s: requests.map(|rate| rate * batch as f64),
            basis: throughput.basis,
            basis_s: throughput.over.as_secs_f64(),
            span_s: span.length().as_secs_f64(),
            window_requests_per_s: throughput.in_window,
        }
    }

    /// Returns what the headline is taken over, for people.
    pub(super) fn over(&self) -> String {
        let what = match self.basis {
            Basis::Window => "in the measured window of",
            Basis::Span => "over",
        };
        format!("{what} {:.3} s", self.basis_s)
    }
}
