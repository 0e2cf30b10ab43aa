//! The measured part of a run, summed up.

use std::time::Duration;

use super::{Backlog, Counts, Failing, Latencies};
use crate::record::{Outcome, Record};

/// What one run measured. Warm-up is left out by intended time.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Requests by outcome.
    pub counts: Counts,
    /// Requests of the warm-up.
    pub warmup: u64,
    /// From the intended send, over everything offered. The headline.
    pub response: Latencies,
    /// From the send, over correct answers only.
    pub service: Latencies,
    /// From the send to the first byte, over correct answers only.
    pub first_byte: Latencies,
    /// How late the client handed requests over, over all that came to an end.
    pub lag: Latencies,
    /// For how long the connection or the server then held them back, over correct answers only.
    pub held: Latencies,
    /// From the intended send, over errors and timeouts only.
    pub errors: Latencies,
    /// The server's own account, over correct answers that had one.
    pub stages: Option<StageLatencies>,
    /// The time that the measured requests took.
    pub span: Span,
    /// Correct answers in the measured window, whenever their requests were offered; `None` where
    /// the window has no fixed end.
    pub window_ok: Option<u64>,
    /// Requests in flight over time.
    pub backlog: Backlog,
    /// What failed at the end, if anything did.
    pub failing: Option<Failing>,
}

/// The server's own account by stage.
#[derive(Debug, Clone, Default)]
pub struct StageLatencies {
    /// Waiting for a batch and for the device.
    pub queue: Latencies,
    /// Of that, waiting for the model's weights, over answers that did.
    pub residency: Latencies,
    /// Of that, for how long inputs were left on disk, over answers whose were.
    pub parked: Latencies,
    /// Of that, how long their ways back took.
    pub onboard: Latencies,
    /// Copying the inputs to the device.
    pub h2d: Latencies,
    /// Running the model.
    pub compute: Latencies,
    /// Copying the outputs to the host.
    pub d2h: Latencies,
    /// Service time that no stage explains: network, wire format and client.
    pub rest: Latencies,
}

/// The time from the first intended send to the last answer, correct or not, and never less than to
/// the last intended send: a target that dies halfway has the whole time counted against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first intended send.
    pub start: Duration,
    /// The end of the last answer, or the last intended send where that is later.
    pub end: Duration,
}

impl Span {
    /// Returns how long it is.
    pub fn length(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }

    /// Returns `count` a second over the span, or `None` where it has no length.
    pub fn rate(&self, count: u64) -> Option<f64> {
        let seconds = self.length().as_secs_f64();
        (seconds > 0.0).then(|| count as f64 / seconds)
    }
}

impl Summary {
    /// Sums up the records whose intended time is at or after `warmup`. `duration` is the length of
    /// the measured window, if it has one, and `timeout` the least that a timed-out request counts.
    pub fn of(
        records: &[Record],
        warmup: Duration,
        duration: Option<Duration>,
        timeout: Duration,
    ) -> Self {
        let measured: Vec<&Record> = records
            .iter()
            .filter(|record| record.intended >= warmup)
            .collect();
        let mut summary = Self {
            counts: Counts::of(measured.iter().copied()),
            warmup: (records.len() - measured.len()) as u64,
            response: Latencies::new(),
            service: Latencies::new(),
            first_byte: Latencies::new(),
            lag: Latencies::new(),
            held: Latencies::new(),
            errors: Latencies::new(),
            stages: None,
            span: span(&measured),
            window_ok: duration.map(|length| ok_between(records, warmup, warmup + length)),
            backlog: Backlog::of(records, warmup),
            failing: Failing::of(&measured),
        };
        for record in measured {
            summary.add(record, timeout);
        }
        summary
    }

    fn add(&mut self, record: &Record, timeout: Duration) {
        if let Some(lag) = record.lag() {
            self.lag.record(lag);
        }
        match record.outcome {
            Outcome::Ok => {
                self.response.record(record.response());
                self.add_answer(record);
            }
            Outcome::Failed(_) => {
                self.response.record_never();
                self.errors.record(record.response());
            }
            Outcome::TimedOut => {
                let waited = record.response().max(timeout);
                self.response.record_at_least(waited);
                self.errors.record_at_least(waited);
            }
            Outcome::Unfinished => self.response.record_at_least(record.response()),
            Outcome::NotSent => self.response.record_never(),
        }
    }

    fn add_answer(&mut self, record: &Record) {
        let Some(service) = record.service() else {
            return;
        };
        self.service.record(service);
        if let Some(held) = record.held() {
            self.held.record(held);
        }
        if let (Some(first), Some(sent)) = (record.first, record.sent) {
            self.first_byte.record(first.saturating_sub(sent));
        }
        if let Some(stages) = record.stages {
            let all = self.stages.get_or_insert_default();
            all.queue.record(stages.queue);
            let waited = Some(stages.residency).filter(|time| !time.is_zero());
            for (latencies, time) in [
                (&mut all.residency, waited),
                (&mut all.parked, stages.parked),
                (&mut all.onboard, stages.onboard),
            ] {
                if let Some(time) = time {
                    latencies.record(time);
                }
            }
            all.h2d.record(stages.h2d);
            all.compute.record(stages.compute);
            all.d2h.record(stages.d2h);
            all.rest.record(service.saturating_sub(stages.total()));
        }
    }
}

fn span(measured: &[&Record]) -> Span {
    // A wait that was given up has no end of its own: how long it lasted is the client's choice.
    let answered = measured
        .iter()
        .filter(|record| matches!(record.outcome, Outcome::Ok | Outcome::Failed(_)))
        .map(|record| record.done);
    let intended = || measured.iter().map(|record| record.intended);
    Span {
        start: intended().min().unwrap_or_default(),
        end: answered.chain(intended()).max().unwrap_or_default(),
    }
}

fn ok_between(records: &[Record], start: Duration, end: Duration) -> u64 {
    records
        .iter()
        .filter(|record| record.outcome == Outcome::Ok && (start..end).contains(&record.done))
        .count() as u64
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
