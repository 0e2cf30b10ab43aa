//! From repetitions to one cell of the table. Pure.
//!
//! Invariant: throughput is samples answered over the time from the first request to the last
//! answer, never over a sum of latencies; what was not measured is absent, never zero.

use std::time::Duration;

use forebay_client::PipelineStatistics;
use serde::{Deserialize, Serialize};

use super::spread::Spread;
use crate::{
    record::Stages,
    report::PercentileReport,
    stats::{Latencies, QUANTILES},
};

/// Percentiles that a ladder tells, where the samples suffice.
const TOLD: [&str; 3] = ["p50", "p90", "p99"];

/// A volley at least so long tells by the driver how busy the device was.
const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// The driver tells of the second before, which for so long reaches back beyond the first request.
const STALE: Duration = Duration::from_secs(1);

/// Requests sent at once to one column, and what came of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Repetition {
    /// How long the single request before took, if it was answered.
    pub(super) warmup: Option<Duration>,
    /// Where its time went in the server, with nothing else under way.
    pub(super) alone: Option<Stages>,
    /// From the moment that all were due to each answer.
    pub(super) responses: Vec<Duration>,
    /// Where the time of each went in the server.
    pub(super) stages: Vec<Stages>,
    /// Requests without a correct answer, and what was said of the first.
    pub(super) failed: u64,
    /// See `failed`.
    pub(super) failure: Option<String>,
    /// What the pipelines did meanwhile, where the server tells.
    pub(super) pipeline: Option<PipelineStatistics>,
    /// Percent of the device's time, and how long after the first request, every 100 ms, where its
    /// driver tells.
    pub(super) utilisation: Vec<(Duration, u32)>,
    /// Slabs of page-locked memory that were allocated meanwhile, where the server tells.
    pub(super) pinned_allocations: Option<u64>,
}

/// What is kept of the volley before the repetitions, which pays for what happens once.
#[derive(Debug, Clone, Default)]
pub(super) struct RunIn {
    /// How long the single request before it took, the very first, if it was answered.
    pub(super) first: Option<Duration>,
    /// What was said of its first request without a correct answer.
    pub(super) failure: Option<String>,
}

/// One column at one batch size. Nothing of its run-in is in a figure, but for its very first request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Repetitions that were completed.
    pub repetitions: usize,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were not.
    pub failed: u64,
    /// What was said of the first of those.
    pub failure: Option<String>,
    /// What was said of the first request of the run-in that was not.
    #[serde(default)]
    pub run_in_failure: Option<String>,
    /// Latency of the very first request, before the run-in.
    pub first_warmup_ms: Option<f64>,
    /// Latency of the single request before each repetition.
    pub warmup_ms: Option<Spread>,
    /// Mean latency of each repetition, from when all requests were due.
    pub latency_ms: Option<Spread>,
    /// Percentiles over the requests of all repetitions.
    pub percentiles: Vec<PercentileReport>,
    /// Samples per second, of each repetition.
    pub samples_per_s: Option<Spread>,
    /// How much of the time the device worked.
    pub utilisation: Option<Utilisation>,
    /// Stage times over the time that the pipelines were busy; 1 does one thing at a time.
    pub overlap: Option<f64>,
    /// Mean stage times under load.
    pub stages_ms: Option<StageMeans>,
    /// Mean stage times of single requests.
    pub alone_ms: Option<StageMeans>,
    /// Samples per second that one worker's slowest stage allows. Each stage counts with the smaller
    /// of its times alone and under load: an idle device runs at a lower clock, and a loaded one
    /// shares its memory.
    pub bound_per_s: Option<f64>,
    /// Throughput over that bound. Several workers may exceed it.
    pub of_bound: Option<f64>,
    /// Slabs of page-locked memory that were allocated in each repetition; the steady path allocates
    /// none. Empty where the server does not tell.
    #[serde(default)]
    pub pinned_allocations: Vec<u64>,
}

/// How much of the time the device worked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Utilisation {
    /// In percent.
    pub percent: f64,
    /// Who says so.
    pub source: Source,
    /// How often it was asked.
    pub samples: usize,
}

/// Who tells of utilisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The device's driver: a kernel ran.
    Driver,
    /// The server: a pass ran, of the time in which its pipelines were busy.
    Computing,
}

/// Mean times of the stages in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageMeans {
    /// Waiting for a batch and for the device.
    pub queue: f64,
    /// Copying inputs to the device.
    pub h2d: f64,
    /// Running the model.
    pub compute: f64,
    /// Copying outputs to the host.
    pub d2h: f64,
}

impl From<Repetition> for RunIn {
    fn from(volley: Repetition) -> Self {
        Self {
            first: volley.warmup,
            failure: volley.failure,
        }
    }
}

impl Repetition {
    /// Returns the time from the first request to the last answer.
    fn span(&self) -> Option<Duration> {
        self.responses.iter().max().copied()
    }

    fn samples_per_s(&self, batch: u32) -> Option<f64> {
        let span = self.span()?.as_secs_f64();
        let samples = self.responses.len() as f64 * f64::from(batch);
        (span > 0.0).then(|| samples / span)
    }

    fn mean_ms(&self) -> Option<f64> {
        let sum: Duration = self.responses.iter().sum();
        let count = self.responses.len() as f64;
        (count > 0.0).then(|| sum.as_secs_f64() * 1e3 / count)
    }
}

impl Cell {
    /// Sums up the repetitions of requests of `batch` samples.
    pub(super) fn of(batch: u32, repetitions: &[Repetition]) -> Self {
        let each = |figure: &dyn Fn(&Repetition) -> Option<f64>| {
            Spread::of(&repetitions.iter().filter_map(figure).collect::<Vec<_>>())
        };
        let samples_per_s = each(&|repetition| repetition.samples_per_s(batch));
        let stages = repetitions.iter().flat_map(|one| &one.stages);
        let alone_ms = StageMeans::of(repetitions.iter().filter_map(|one| one.alone.as_ref()));
        let stages_ms = StageMeans::of(stages);
        let least = alone_ms.map(|alone| stages_ms.map_or(alone, |loaded| alone.least(loaded)));
        let bound_per_s = least.and_then(|means| means.bound(batch));
        let pipeline = pipeline(repetitions);
        Self {
            repetitions: repetitions.len(),
            answered: repetitions
                .iter()
                .map(|one| one.responses.len() as u64)
                .sum(),
            failed: repetitions.iter().map(|one| one.failed).sum(),
            failure: repetitions.iter().find_map(|one| one.failure.clone()),
            run_in_failure: None,
            first_warmup_ms: None,
            warmup_ms: each(&|repetition| repetition.warmup.map(millis)),
            latency_ms: each(&Repetition::mean_ms),
            percentiles: percentiles(repetitions),
            samples_per_s,
            utilisation: utilisation(repetitions, pipeline),
            overlap: pipeline.and_then(|gained| gained.overlap()),
            stages_ms,
            alone_ms,
            bound_per_s,
            of_bound: samples_per_s
                .zip(bound_per_s)
                .map(|(got, bound)| got.mean / bound),
            pinned_allocations: pinned_allocations(repetitions).unwrap_or_default(),
        }
    }

    /// Adds what is told of the run-in.
    pub(super) fn after(self, run_in: &RunIn) -> Self {
        Self {
            run_in_failure: run_in.failure.clone(),
            first_warmup_ms: run_in.first.map(millis),
            ..self
        }
    }

    /// Returns the percentile `name`, where there were samples enough.
    pub fn percentile_ms(&self, name: &str) -> Option<f64> {
        let found = self.percentiles.iter().find(|one| one.name == name)?;
        found.value_ms
    }
}

impl StageMeans {
    fn of<'a>(stages: impl Iterator<Item = &'a Stages>) -> Option<Self> {
        let stages: Vec<_> = stages.collect();
        let mean = |stage: fn(&Stages) -> Duration| {
            let sum: Duration = stages.iter().map(|one| stage(one)).sum();
            millis(sum) / stages.len() as f64
        };
        (!stages.is_empty()).then(|| Self {
            queue: mean(|one| one.queue),
            h2d: mean(|one| one.h2d),
            compute: mean(|one| one.compute),
            d2h: mean(|one| one.d2h),
        })
    }

    /// Returns the smaller time of each stage.
    fn least(self, other: Self) -> Self {
        Self {
            queue: self.queue.min(other.queue),
            h2d: self.h2d.min(other.h2d),
            compute: self.compute.min(other.compute),
            d2h: self.d2h.min(other.d2h),
        }
    }

    fn bound(self, batch: u32) -> Option<f64> {
        let slowest = self.h2d.max(self.compute).max(self.d2h);
        (slowest > 0.0).then(|| f64::from(batch) * 1e3 / slowest)
    }
}

fn percentiles(repetitions: &[Repetition]) -> Vec<PercentileReport> {
    let mut pooled = Latencies::new();
    for repetition in repetitions {
        for response in &repetition.responses {
            pooled.record(*response);
        }
        for _ in 0..repetition.failed {
            pooled.record_never();
        }
    }
    let told = QUANTILES.iter().filter(|one| TOLD.contains(&one.name));
    told.map(|quantile| pooled.percentile(*quantile).into())
        .collect()
}

/// Adds up what the pipelines did, if the server told of each repetition.
fn pipeline(repetitions: &[Repetition]) -> Option<PipelineStatistics> {
    let mut sum = PipelineStatistics::default();
    for repetition in repetitions {
        let one = repetition.pipeline?;
        sum.busy += one.busy;
        sum.h2d += one.h2d;
        sum.compute += one.compute;
        sum.d2h += one.d2h;
        sum.computing += one.computing;
    }
    Some(sum)
}

/// Returns the slabs that were allocated in each repetition, if the server told of each.
fn pinned_allocations(repetitions: &[Repetition]) -> Option<Vec<u64>> {
    let each = repetitions.iter().map(|one| one.pinned_allocations);
    each.collect()
}

fn utilisation(
    repetitions: &[Repetition],
    pipeline: Option<PipelineStatistics>,
) -> Option<Utilisation> {
    let long = repetitions
        .iter()
        .filter(|one| one.span() >= Some(LONG_ENOUGH));
    let told = long.flat_map(|one| &one.utilisation);
    let told = told.filter(|(after, _)| *after > STALE);
    let told: Vec<_> = told.map(|(_, percent)| f64::from(*percent)).collect();
    if let Some(spread) = Spread::of(&told) {
        return Some(Utilisation {
            percent: spread.mean,
            source: Source::Driver,
            samples: spread.n,
        });
    }
    Some(Utilisation {
        percent: pipeline?.computing_fraction()? * 100.0,
        source: Source::Computing,
        samples: repetitions.len(),
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
