//! What a model has done so far, as ModelStatistics tells it.
//!
//! Invariant: every request counts once, as success or as failure, and its time in the queue
//! counts whether or not it waited; each batch counts once, also one that runs in pieces; of one that
//! was tried again in parts, each part that succeeds counts, by the way chosen for the batch.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use forebay_proto::inference::{
    ForebayParkingStatistics, InferBatchStatistics, InferStatistics, ModelStatistics,
    StatisticDuration,
};

use crate::{
    executor::Path,
    request::{Stages, Timings},
};

mod pipeline;

use pipeline::Pipeline;

/// The statistics of one model version.
#[derive(Debug, Default)]
pub struct Statistics {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_inference_ms: u64,
    inferences: u64,
    executions: u64,
    success: Sum,
    fail: Sum,
    queue: Sum,
    compute_input: Sum,
    compute_infer: Sum,
    compute_output: Sum,
    parked: Sum,
    onboard: Sum,
    /// By rows of the batch.
    batches: BTreeMap<usize, Batches>,
    pipeline: Pipeline,
}

/// What batches of one size took, and which way they went.
#[derive(Debug, Default)]
struct Batches {
    stages: [Sum; 3],
    inline: u64,
    staged: u64,
    cut: u64,
}

/// A batch that succeeded.
#[derive(Debug)]
pub struct Execution<'a> {
    /// Its rows.
    pub rows: usize,
    /// Which way was chosen for it.
    pub path: Path,
    /// What its stages took.
    pub stages: Stages,
    /// When its passes ran; more than one where it was cut.
    pub passes: &'a [(Instant, Instant)],
}

/// A batch between the scheduler and its replies.
#[derive(Debug)]
pub struct Busy<'a>(&'a Statistics);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().pipeline.leave(Instant::now());
    }
}

/// Durations, added up.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u64,
    nanos: u64,
}

impl Sum {
    fn add(&mut self, duration: Duration) {
        self.count += 1;
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanos = self.nanos.saturating_add(nanos);
    }
}

impl From<Sum> for StatisticDuration {
    fn from(sum: Sum) -> Self {
        Self {
            count: sum.count,
            ns: sum.nanos,
        }
    }
}

impl Statistics {
    /// Notes that a batch has left the scheduler, until the guard is dropped.
    pub fn enter(&self) -> Busy<'_> {
        self.lock().pipeline.enter(Instant::now());
        Busy(self)
    }

    /// Counts a batch.
    pub fn record_batch(&self, execution: &Execution<'_>) {
        let Execution {
            rows,
            path,
            stages,
            passes,
        } = execution;
        let stages = [stages.h2d, stages.compute, stages.d2h];
        let mut state = self.lock();
        state.executions += 1;
        state.inferences += *rows as u64;
        state.pipeline.record(stages, passes);
        let batches = state.batches.entry(*rows).or_default();
        for (sum, duration) in batches.stages.iter_mut().zip(stages) {
            sum.add(duration);
        }
        match path {
            Path::Inline => batches.inline += 1,
            Path::Stages => batches.staged += 1,
            Path::Cut(_) => batches.cut += 1,
        }
    }

    /// Forgets what was counted so far.
    pub fn reset(&self) {
        let mut state = self.lock();
        // Whoever was told last may still be inside.
        let pipeline = state.pipeline.restarted(Instant::now());
        *state = State {
            pipeline,
            ..State::default()
        };
    }

    /// Counts a request that was answered with outputs `took` after it came.
    pub fn record_success(&self, timings: &Timings, took: Duration) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut state = self.lock();
        state.last_inference_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        state.success.add(took);
        state.queue.add(timings.queue());
        if let Some(parking) = &timings.parked {
            state.parked.add(parking.parked());
            state.onboard.add(parking.onboard());
        }
        if let Some(stages) = &timings.stages {
            state.compute_input.add(stages.h2d);
            state.compute_infer.add(stages.compute);
            state.compute_output.add(stages.d2h);
        }
    }

    /// Counts a request that failed `took` after it came.
    pub fn record_failure(&self, took: Duration) {
        self.lock().fail.add(took);
    }

    /// Returns the statistics in the protocol's form.
    pub fn report(&self, name: &str, version: u64) -> ModelStatistics {
        let state = self.lock();
        let batch_stats = state.batches.iter().map(|(&rows, batches)| {
            let [input, infer, output] = batches.stages;
            InferBatchStatistics {
                batch_size: rows as u64,
                compute_input: Some(input.into()),
                compute_infer: Some(infer.into()),
                compute_output: Some(output.into()),
                forebay_inline_count: batches.inline,
                forebay_staged_count: batches.staged,
                forebay_cut_count: batches.cut,
            }
        });
        ModelStatistics {
            name: name.to_owned(),
            version: version.to_string(),
            last_inference: state.last_inference_ms,
            inference_count: state.inferences,
            execution_count: state.executions,
            inference_stats: Some(InferStatistics {
                success: Some(state.success.into()),
                fail: Some(state.fail.into()),
                queue: Some(state.queue.into()),
                compute_input: Some(state.compute_input.into()),
                compute_infer: Some(state.compute_infer.into()),
                compute_output: Some(state.compute_output.into()),
                cache_hit: Some(Sum::default().into()),
                cache_miss: Some(Sum::default().into()),
            }),
            batch_stats: batch_stats.collect(),
            forebay_pipeline: Some(state.pipeline.report(Instant::now())),
            forebay_parking: Some(ForebayParkingStatistics {
                parked: Some(state.parked.into()),
                onboard: Some(state.onboard.into()),
            }),
            ..ModelStatistics::default()
        }
    }

    /// Every update is a few additions, so a panic elsewhere leaves the sums whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
