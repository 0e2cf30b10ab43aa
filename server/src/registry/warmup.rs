//! Runs a model before it is ready: what its `model_warmup` says, then every batch size that may
//! come, on every instance, through the same stages and threads that will serve.
//!
//! A first pass makes what later ones find: a compiled graph, kernels for a shape, slabs of memory.
//! Invariants: no request is served before the warm-up is over, and nothing of it is left in a
//! model's state or in the statistics.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use forebay_proto::{DataType, Shape, Tensor};
use tokio::sync::oneshot;

use crate::{
    error::Error,
    executor::Pipeline,
    model::sample::{self, Values},
    repository::{ModelSettings, Scheduling, WarmupData, WarmupInput, WarmupSample},
    request::{Answer, Job, Reply, Timings},
    signature::TensorSpec,
};

/// Passes of each size where batches can run through stages: as many as are measured before a choice
/// is made, and as a graph takes to be specialised on an accelerator.
const STAGED_PASSES: usize = 3;

/// Passes of the first size elsewhere: the first one compiles the graph.
const FIRST_PASSES: usize = 2;

/// A sample of `model_warmup` failed.
#[derive(Debug, thiserror::Error)]
#[error("model_warmup '{sample}': {reason}; mend the sample, or remove it")]
pub struct Failed {
    sample: String,
    reason: String,
}

/// The instances of a model version that is to be ready.
pub(super) struct Warmup<'a> {
    pub(super) settings: &'a ModelSettings,
    pub(super) pipelines: &'a [Pipeline],
    /// What the sizes that nobody asked for may take together, from when the first of them is warm.
    pub(super) limit: Duration,
}

impl Warmup<'_> {
    /// Runs it. Blocks; call it on a thread that may.
    ///
    /// # Errors
    /// A sample that the configuration gives failed. What is made up here may fail.
    pub(super) fn run(&self) -> Result<(), Failed> {
        for sample in &self.settings.warmup {
            self.run_sample(sample).map_err(|reason| Failed {
                sample: sample.name.clone(),
                reason,
            })?;
        }
        if !self.limit.is_zero() {
            self.run_sizes();
        }
        Ok(())
    }

    fn run_sample(&self, sample: &WarmupSample) -> Result<(), String> {
        let item = Item::read(sample, &self.settings.signature.inputs)?;
        for _ in 0..sample.count {
            self.pass(&item, sample.rows)?;
        }
        Ok(())
    }

    /// Runs each size, as far as time allows. What a pass takes is told by the one before.
    fn run_sizes(&self) {
        let model = &self.settings.name;
        let item = match self.settings.warmup.first() {
            Some(sample) => Item::read(sample, &self.settings.signature.inputs),
            None => Item::made_up(&self.settings.signature.inputs),
        };
        let began = Instant::now();
        // The first size pays for what a device and its libraries set up, which may take longer than
        // all passes: the limit counts from when it is warm.
        let mut counted = None;
        let (mut warm, mut left) = (BTreeSet::new(), BTreeSet::new());
        let mut row = Duration::ZERO;
        let staged = self.pipelines.iter().any(Pipeline::is_staged);
        for rows in sizes(self.settings.max_batch_size, &self.settings.scheduling) {
            let passes = match warm.is_empty() {
                _ if staged => STAGED_PASSES,
                true => FIRST_PASSES,
                false => 1,
            };
            let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let expected = row
                .saturating_mul(count(rows))
                .saturating_mul(count(passes));
            let spent = counted.map(|since: Instant| since.elapsed());
            if spent.is_some_and(|spent| spent + expected > self.limit) {
                left.insert(rows);
                continue;
            }
            for _ in 0..passes {
                let pass = Instant::now();
                let done = item.as_ref().map_err(Clone::clone);
                if let Err(reason) = done.and_then(|item| self.pass(item, rows)) {
                    tracing::info!(%model, rows, reason, "the warm-up ends here: the model does not take a made-up request");
                    return;
                }
                row = pass.elapsed() / count(rows);
            }
            warm.insert(rows);
            counted.get_or_insert_with(Instant::now);
        }
        let (took, warm) = (began.elapsed(), ranges(&warm));
        if left.is_empty() {
            tracing::info!(%model, ?took, batch_sizes = warm, "warmed up");
        } else {
            let left = ranges(&left);
            tracing::info!(%model, ?took, batch_sizes = warm, left, limit = ?self.limit, "warmed up, as far as registry.warmup_timeout allows");
        }
    }

    /// Runs a batch of `rows` rows on each instance at once, as serving may.
    fn pass(&self, item: &Item, rows: usize) -> Result<(), String> {
        let mut answers = Vec::new();
        for pipeline in self.pipelines {
            let mut jobs = Vec::new();
            for rows in self.parts(rows) {
                let (job, answer) = self.job(item, rows)?;
                jobs.push(job);
                answers.push(answer);
            }
            pipeline.warm(jobs);
        }
        for answer in answers {
            let answer = answer.blocking_recv().unwrap_or(Err(Error::Lost));
            answer.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Divides a batch into requests: two, where requests are joined, so that memory for joining
    /// them is there afterwards.
    fn parts(&self, rows: usize) -> Vec<usize> {
        match self.settings.scheduling {
            Scheduling::Dynamic(_) if rows > 1 => vec![rows - 1, 1],
            _ => vec![rows],
        }
    }

    fn job(
        &self,
        item: &Item,
        rows: usize,
    ) -> Result<(Job, oneshot::Receiver<Result<Answer, Error>>), String> {
        let (reply, answer) = Reply::channel();
        let batch = self.settings.signature.is_batching().then_some(rows);
        let job = Job {
            model: self.settings.name.clone(),
            inputs: item.tensors(&self.settings.signature.inputs, batch)?,
            rows,
            deadline: None,
            sequence: None,
            life: None,
            permit: None,
            timings: Timings::new(Instant::now()),
            reply,
        };
        Ok((job, answer))
    }
}

/// The data of one item, in the order of the signature.
struct Item(Vec<Option<(Vec<i64>, Bytes)>>);

impl Item {
    fn read(sample: &WarmupSample, specs: &[TensorSpec]) -> Result<Self, String> {
        let input = |(input, spec): (&Option<WarmupInput>, &TensorSpec)| match input {
            Some(input) => Ok(Some((input.dims.clone(), data(input, spec)?))),
            None => Ok(None),
        };
        let inputs = sample.inputs.iter().zip(specs).map(input);
        Ok(Self(inputs.collect::<Result<_, String>>()?))
    }

    fn made_up(specs: &[TensorSpec]) -> Result<Self, String> {
        let input = |spec: &TensorSpec| {
            let dims = sample::dims(spec);
            let data = sample::elements_of(spec.datatype, elements(&dims)?, Values::Mixed);
            Ok(Some((dims, data.into())))
        };
        Ok(Self(
            specs.iter().map(input).collect::<Result<_, String>>()?,
        ))
    }

    /// Makes the tensors of `rows` such items, or of one without a batch dimension.
    fn tensors(
        &self,
        specs: &[TensorSpec],
        rows: Option<usize>,
    ) -> Result<Vec<Option<Tensor>>, String> {
        let tensor = |(item, spec): (&Option<(Vec<i64>, Bytes)>, &TensorSpec)| {
            let Some((dims, data)) = item else {
                return Ok(None);
            };
            let batch = rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
            let dims = batch.into_iter().chain(dims.iter().copied()).collect();
            let shape = Shape::new(dims).map_err(|error| error.to_string())?;
            let data = match rows {
                Some(rows) if rows > 1 => data.repeat(rows).into(),
                _ => data.clone(),
            };
            let tensor = Tensor::new(spec.name.clone(), spec.datatype, shape, data);
            tensor.map(Some).map_err(|error| error.to_string())
        };
        self.0.iter().zip(specs).map(tensor).collect()
    }
}

fn data(input: &WarmupInput, spec: &TensorSpec) -> Result<Bytes, String> {
    let count = elements(&input.dims)?;
    let values = match &input.data {
        WarmupData::Zeros => Values::Zeros,
        WarmupData::Random => Values::Random,
        WarmupData::File(file) => {
            let named = file.file_name().unwrap_or_default().to_string_lossy();
            let mut bytes = fs::read(file).map_err(|error| format!("{named}: {error}"))?;
            if spec.datatype != DataType::Bytes {
                bytes.truncate(count.saturating_mul(spec.datatype.size().unwrap_or(1)));
            }
            return Ok(bytes.into());
        }
    };
    Ok(sample::elements_of(spec.datatype, count, values).into())
}

fn elements(dims: &[i64]) -> Result<usize, String> {
    let shape = Shape::new(dims.to_vec()).map_err(|error| error.to_string())?;
    usize::try_from(shape.elements()).map_err(|error| error.to_string())
}

/// Returns the batch sizes that may come, those first that will come most: one row, the largest
/// batch, what batches are aimed at, powers of two, the rest.
fn sizes(max_batch_size: usize, scheduling: &Scheduling) -> Vec<usize> {
    let most = max_batch_size.max(1);
    let preferred = match scheduling {
        Scheduling::Sequence(_) => return vec![1],
        Scheduling::Dynamic(batching) => &batching.preferred_batch_sizes[..],
        Scheduling::Each => &[],
    };
    let powers = (1..usize::BITS).map(|power| 1 << power);
    let powers = powers.take_while(|&power| power < most);
    let order = [1, most]
        .into_iter()
        .chain(preferred.iter().copied())
        .chain(powers)
        .chain(1..=most);
    let mut seen = BTreeSet::new();
    order.filter(|&size| seen.insert(size)).collect()
}

/// Writes numbers as ranges: 1, 3..=5.
fn ranges(numbers: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}..={last}")
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "warmup_tests.rs"]
mod tests;
