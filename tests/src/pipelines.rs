//! A scheduler and a pipeline without a server, and loads on them: what `benches/executor.rs`
//! measures.
//!
//! Each request is a batch of its own, of as many rows as the load says, so that a batch size is
//! measured by itself.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use forebay_proto::{
    DataType, Shape, Tensor,
    inference::{ForebayPipelineStatistics, InferBatchStatistics},
};
use forebay_server::{
    admission::Budget,
    device::{Cpu, Device, Simulated, simulated::Costs},
    executor::{Config, Context, MicroBatches, Mode, OutputShapes, Parts, Pipeline},
    memory::Pool,
    model,
    repository::{DynamicBatching, Scheduling},
    request::{Job, Reply, Timings},
    scheduler::{Pending, Scheduler},
    signature::{Signature, TensorSpec},
    statistics::Statistics,
    tensor::Placed,
};

/// Bytes of a row, which is one tensor of UINT8.
pub const ROW_BYTES: usize = 1024;

/// Gives its inputs back.
#[derive(Debug)]
struct Echo;

impl model::Instance for Echo {
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, model::Error> {
        Ok(inputs.into_iter().flatten().collect())
    }

    fn reset(&mut self) -> Result<(), model::Error> {
        Ok(())
    }
}

/// A pipeline under load. Dropping it ends its threads.
#[derive(Debug)]
pub struct Bench {
    scheduler: Arc<Scheduler>,
    pipeline: Option<Pipeline>,
    statistics: Arc<Statistics>,
    runtime: tokio::runtime::Runtime,
    input: Tensor,
    rows: usize,
    budget: Budget,
}

impl Bench {
    /// Starts a pipeline for batches of `rows` rows on a simulated device.
    ///
    /// # Errors
    /// The system has no room for threads.
    pub fn simulated(costs: Costs, rows: usize, config: Config) -> anyhow::Result<Self> {
        Self::start(Simulated::new(costs, pool()), rows, config)
    }

    /// Starts a pipeline for batches of `rows` rows on the CPU.
    ///
    /// # Errors
    /// The system has no room for threads.
    pub fn cpu(rows: usize, config: Config) -> anyhow::Result<Self> {
        Self::start(Cpu::new(pool()), rows, config)
    }

    fn start<D: Device>(device: D, rows: usize, config: Config) -> anyhow::Result<Self> {
        let dims = i64::try_from(ROW_BYTES)?;
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            datatype: DataType::Uint8,
            dims: vec![dims],
            reshape: None,
            optional: false,
        };
        let signature = Signature {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            max_batch_size: rows,
        };
        let batching = Scheduling::Dynamic(DynamicBatching {
            preferred_batch_sizes: vec![],
            max_queue_delay: Duration::ZERO,
        });
        let scheduler = Arc::new(Scheduler::new(&batching, rows, 1, 1000));
        let budget = Budget::new("bench", 1 << 30);
        let statistics = Arc::<Statistics>::default();
        let pipeline = Pipeline::spawn(Parts {
            device: Arc::new(device),
            scheduler: Arc::clone(&scheduler),
            index: 0,
            instance: Box::new(Echo),
            context: Arc::new(Context {
                output_shapes: OutputShapes::new("echo", 1, &signature),
                signature,
                host_inputs: vec![],
                budget: budget.clone(),
                statistics: Arc::clone(&statistics),
            }),
            config,
        })?;
        let shape = Shape::new(vec![i64::try_from(rows)?, dims])?;
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        Ok(Self {
            scheduler,
            pipeline: Some(pipeline),
            statistics,
            runtime: runtime.context("start a runtime")?,
            input: Tensor::new("x", DataType::Uint8, shape, vec![7; rows * ROW_BYTES])?,
            rows,
            budget,
        })
    }

    /// Answers `requests` requests, with up to `in_flight` at a time. Returns the time from the answer
    /// to the first `skip` of them to the last answer.
    ///
    /// # Errors
    /// A request failed.
    pub fn run(&self, requests: usize, in_flight: usize, skip: usize) -> anyhow::Result<Duration> {
        self.runtime.block_on(async {
            let mut pending: VecDeque<Pending> = VecDeque::with_capacity(in_flight);
            let mut began = Instant::now();
            for answered in 0..requests {
                while pending.len() < in_flight && answered + pending.len() < requests {
                    pending.push_back(self.submit()?);
                }
                let next = pending.pop_front().context("have a request in flight")?;
                let answer = next.await?;
                anyhow::ensure!(
                    answer.outputs[0].data().len() == self.rows * ROW_BYTES,
                    "an answer was cut short"
                );
                if answered + 1 == skip {
                    began = Instant::now();
                }
            }
            Ok(began.elapsed())
        })
    }

    fn submit(&self) -> anyhow::Result<Pending> {
        let (reply, answer) = Reply::channel();
        let job = Job {
            model: "echo".to_owned(),
            inputs: vec![Some(self.input.clone())],
            rows: self.rows,
            deadline: None,
            queue_until: None,
            sequence: None,
            life: None,
            permit: Some(self.budget.charge(self.input.data().len() as u64)),
            timings: Timings::new(Instant::now()),
            reply,
        };
        Ok(self.scheduler.submit(job, answer)?)
    }

    /// Returns which ways batches went so far.
    pub fn ways(&self) -> InferBatchStatistics {
        let report = self.statistics.report("echo", 1);
        report.batch_stats.into_iter().next().unwrap_or_default()
    }

    /// Returns how busy the pipeline was so far.
    pub fn pipeline(&self) -> ForebayPipelineStatistics {
        let report = self.statistics.report("echo", 1);
        report.forebay_pipeline.unwrap_or_default()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.scheduler.close();
        if let Some(pipeline) = self.pipeline.take() {
            pipeline.join();
        }
    }
}

/// Returns a configuration of `mode` that cuts no batch.
pub fn whole(mode: Mode) -> Config {
    Config {
        mode,
        micro_batches: MicroBatches::Off,
        ..Config::default()
    }
}

/// Returns a configuration in which everything is measured.
pub fn auto() -> Config {
    Config::default()
}

/// Returns a configuration that cuts batches into `pieces`.
pub fn pieces(pieces: NonZeroUsize) -> Config {
    Config {
        micro_batches: MicroBatches::Pieces(pieces),
        ..Config::default()
    }
}

fn pool() -> Pool {
    Pool::new(256 << 20)
}

/// Runs two loads in turn, `pairs` times, and returns what the first takes over what the second
/// takes. Which goes first alternates, and what slows the host down for a while slows both halves of a
/// pair.
///
/// # Errors
/// A load failed.
pub fn compare(
    pairs: usize,
    mut one: impl FnMut() -> anyhow::Result<Duration>,
    mut other: impl FnMut() -> anyhow::Result<Duration>,
) -> anyhow::Result<Vec<f64>> {
    let mut ratios = Vec::with_capacity(pairs);
    for pair in 0..pairs {
        let (first, second) = if pair % 2 == 0 {
            let first = one()?;
            (first, other()?)
        } else {
            let second = other()?;
            (one()?, second)
        };
        ratios.push(first.div_duration_f64(second));
    }
    Ok(ratios)
}

/// Returns the median of ratios; of none it is not a number.
pub fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_unstable_by(f64::total_cmp);
    let middle = |from: usize| ratios.get(from / 2).copied().unwrap_or(f64::NAN);
    // The two in the middle are one where there is an odd number.
    f64::midpoint(middle(ratios.len().saturating_sub(1)), middle(ratios.len()))
}
