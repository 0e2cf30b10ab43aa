//! What a run is reported as: one structure, from which table, JSON and HTML are made.
//!
//! Invariant: the JSON holds everything that the table and the page show. Its schema has a number;
//! a field that changes its meaning or goes away raises it, a new field does not.

mod chart;
mod distribution;
pub mod html;
pub mod table;
mod throughput;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

pub use distribution::{Distribution, PercentileReport};
pub use throughput::ThroughputReport;

use crate::{
    host::ThreadShare,
    schedule::Arrivals,
    stats::{Backlog, Counts, Latencies, StageLatencies, Window},
    verdict::Verdict,
};

/// The schema's name and number.
pub const SCHEMA: &str = "forebay-loadgen/2";

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The version of the load generator.
    pub tool_version: String,
    /// Seconds from the Unix epoch to the start. All other times are on the monotonic clock.
    pub started_at_unix_s: f64,
    /// How far the numbers may be believed.
    pub verdict: Verdict,
    /// What was asked for.
    pub run: RunReport,
    /// Requests by outcome.
    pub counts: CountsReport,
    /// Answers a second.
    pub throughput: ThroughputReport,
    /// Latencies as the client saw them.
    pub latency: LatencyReport,
    /// Requests in flight over time.
    pub backlog: BacklogReport,
    /// Time as the server accounts for it.
    pub server: ServerReport,
    /// The machine under the client.
    pub client: ClientReport,
    /// The width of the windows of `series`.
    pub series_width_s: f64,
    /// The run over time, warm-up included.
    pub series: Vec<WindowReport>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The server.
    pub endpoint: String,
    /// The model.
    pub model: String,
    /// `unary` or `stream`.
    pub mode: String,
    /// How requests were paced.
    #[serde(rename = "loop")]
    pub pacing: Pacing,
    /// Seconds at the start that are not measured.
    pub warmup_s: f64,
    /// Seconds that are measured.
    pub duration_s: Option<f64>,
    /// Requests that are measured at most.
    pub requests: Option<u64>,
    /// The seed of schedule and payloads.
    pub seed: u64,
    /// Inferences in a request.
    pub batch: u64,
    /// Different payloads.
    pub variants: usize,
    /// Bytes of the tensors of one request.
    pub payload_bytes: usize,
    /// The tensors of one request.
    pub inputs: Vec<InputReport>,
    /// Parameters of every request.
    pub parameters: BTreeMap<String, String>,
    /// HTTP/2 connections.
    pub connections: usize,
    /// Streams, in stream mode.
    pub streams: Option<usize>,
    /// Whether replies might overtake one another on a stream.
    #[serde(default)]
    pub completion_order: bool,
    /// Requests allowed in flight.
    pub max_in_flight: usize,
    /// Seconds that an answer may take.
    pub timeout_s: f64,
    /// Seconds that answers are waited for after the last arrival.
    pub grace_s: f64,
    /// Whether requests form sequences.
    pub sequences: bool,
}

/// How requests were paced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Pacing {
    /// By a schedule.
    Open {
        /// Mean arrivals a second.
        rate: f64,
        /// How gaps are drawn.
        arrivals: Arrivals,
        /// Arrivals in the schedule, warm-up included.
        scheduled: usize,
        /// SHA-256 of the arrivals.
        schedule_sha256: String,
    },
    /// By answers: says nothing about latency at a rate.
    Closed {
        /// Requests in flight.
        concurrency: usize,
    },
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputReport {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: String,
    /// Its dimensions.
    pub shape: Vec<i64>,
}

/// Requests by outcome: offered = ok + failed + timed out + unfinished + not sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CountsReport {
    /// Requests of the warm-up, in no other count.
    pub warmup: u64,
    /// Requests that the load offered.
    pub offered: u64,
    /// Requests that were sent.
    pub sent: u64,
    /// Answered correctly.
    pub completed_ok: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Not answered in the time allowed.
    pub timed_out: u64,
    /// Not answered when the run ended.
    pub unfinished: u64,
    /// Not sent, because too many were in flight.
    pub not_sent: u64,
    /// Failures by the name of their code.
    pub failures: BTreeMap<String, u64>,
}

/// Latencies as the client saw them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyReport {
    /// From the intended send, over everything offered.
    pub response: Distribution,
    /// From the send, over correct answers.
    pub service: Distribution,
    /// From the send to the first byte, over correct answers.
    pub first_byte: Distribution,
    /// How late the client handed requests over, over all that came to an end.
    pub lag: Distribution,
    /// For how long the connection or the server then held them back, over correct answers.
    pub held: Distribution,
    /// From the intended send, over errors and timeouts.
    pub errors: Distribution,
}

/// Requests in flight over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BacklogReport {
    /// Their mean.
    pub mean: f64,
    /// Their largest count.
    pub peak: u64,
    /// How much they grow a second.
    pub growth_per_s: f64,
}

/// Time as the server accounts for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    /// What the model's statistics gained from the end of the warm-up to the end of the run.
    pub statistics: Option<StatisticsReport>,
    /// Stages as told with each answer, in the order of the path; empty unless asked for.
    pub stages: Vec<StageReport>,
    /// Of the first of them, waiting for weights or a disk, over the answers that did.
    #[serde(default)]
    pub waits: Vec<StageReport>,
}

/// What a model's statistics gained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatisticsReport {
    /// Requests answered.
    pub success: u64,
    /// Requests failed.
    pub fail: u64,
    /// Inferences.
    pub inferences: u64,
    /// Executions.
    pub executions: u64,
    /// Inferences in an execution, in the mean.
    pub mean_batch: Option<f64>,
    /// Mean times a request, by stage.
    pub stages: Vec<MeanReport>,
}

/// The mean of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeanReport {
    /// The stage.
    pub stage: String,
    /// Its mean.
    pub mean_ms: f64,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// The stage.
    pub stage: String,
    /// Its latencies.
    pub latency: Distribution,
}

/// The machine under the client.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientReport {
    /// Cores that the client may use.
    pub cores: usize,
    /// The share of them that it used; the pacer's deliberate spinning is no part of it.
    pub cpu_share: Option<f64>,
    /// The thread that hands all requests over and takes all answers.
    pub runner_thread: Option<ThreadShare>,
    /// The thread that was busiest, without the pacer's.
    pub busiest_thread: Option<ThreadShare>,
    /// Seconds that its threads were ready without a core, of those that were left at the end.
    pub run_queue_delay_s: Option<f64>,
    /// The kernel's clock source.
    pub clocksource: Option<String>,
    /// The load average before the run.
    pub load_average_before: Option<f64>,
    /// Whether the server is on the same machine.
    pub shares_machine: bool,
    /// Streams that ended before the run did, and were opened again.
    #[serde(default)]
    pub streams_reopened: u64,
}

/// One window of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WindowReport {
    /// Its start.
    pub start_s: f64,
    /// Requests meant to be sent in it.
    pub offered: u64,
    /// Correct answers that ended in it.
    pub completed_ok: u64,
    /// Requests meant to be sent in it that got no correct answer.
    pub failed: u64,
    /// Median response of the requests meant to be sent in it.
    pub p50_ms: Option<f64>,
    /// Their p99.
    pub p99_ms: Option<f64>,
    /// Their slowest response.
    pub max_ms: Option<f64>,
}

/// Returns milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl From<&Window> for WindowReport {
    fn from(window: &Window) -> Self {
        Self {
            start_s: window.start.as_secs_f64(),
            offered: window.offered,
            completed_ok: window.ok,
            failed: window.failed,
            p50_ms: window.p50.map(millis),
            p99_ms: window.p99.map(millis),
            max_ms: window.max.map(millis),
        }
    }
}

impl From<&Backlog> for BacklogReport {
    fn from(backlog: &Backlog) -> Self {
        Self {
            mean: backlog.mean,
            peak: backlog.peak,
            growth_per_s: backlog.growth_per_second,
        }
    }
}

impl CountsReport {
    /// Reports `counts`, beside `warmup` requests that are in none of them.
    pub fn new(counts: &Counts, warmup: u64) -> Self {
        Self {
            warmup,
            offered: counts.offered,
            sent: counts.sent(),
            completed_ok: counts.ok,
            failed: counts.failed,
            timed_out: counts.timed_out,
            unfinished: counts.unfinished,
            not_sent: counts.not_sent,
            failures: counts.failures.clone(),
        }
    }
}

impl StageReport {
    /// Reports every stage, in the order of the path.
    pub fn all(stages: &StageLatencies) -> Vec<Self> {
        let named = [
            ("queue", &stages.queue),
            ("h2d", &stages.h2d),
            ("compute", &stages.compute),
            ("d2h", &stages.d2h),
            ("network + client", &stages.rest),
        ];
        named.map(Self::of).into()
    }

    /// Reports what of the waiting was for weights or a disk, where any of it was.
    pub fn waits(stages: &StageLatencies) -> Vec<Self> {
        let named = [
            ("of queue: weights", &stages.residency),
            ("of queue: on disk", &stages.parked),
            ("of queue: from disk", &stages.onboard),
        ];
        let had = named
            .into_iter()
            .filter(|(_, latencies)| latencies.samples() > 0);
        had.map(Self::of).collect()
    }

    fn of((stage, latencies): (&str, &Latencies)) -> Self {
        Self {
            stage: stage.to_owned(),
            latency: Distribution::from(latencies),
        }
    }
}
