//! What a model has done so far, as ModelStatistics tells it.
//!
//! Invariant: every request counts once, as success or as failure, and its time in the queue
//! counts whether or not it waited; each forward pass counts once.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use forebay_proto::inference::{
    InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration,
};

use crate::request::{Stages, Timings};

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
    /// By rows of the batch.
    batches: BTreeMap<usize, [Sum; 3]>,
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
    /// Counts a forward pass over `rows` rows.
    pub fn record_batch(&self, rows: usize, stages: &Stages) {
        let mut state = self.lock();
        state.executions += 1;
        state.inferences += rows as u64;
        let sums = state.batches.entry(rows).or_default();
        for (sum, duration) in sums
            .iter_mut()
            .zip([stages.h2d, stages.compute, stages.d2h])
        {
            sum.add(duration);
        }
    }

    /// Forgets what was counted so far.
    pub fn reset(&self) {
        *self.lock() = State::default();
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
        let batch_stats = state
            .batches
            .iter()
            .map(|(&rows, &[input, infer, output])| InferBatchStatistics {
                batch_size: rows as u64,
                compute_input: Some(input.into()),
                compute_infer: Some(infer.into()),
                compute_output: Some(output.into()),
                ..InferBatchStatistics::default()
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
            ..ModelStatistics::default()
        }
    }

    /// Every update is a few additions, so a panic elsewhere leaves the sums whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
