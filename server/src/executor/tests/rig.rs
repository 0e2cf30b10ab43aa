//! A pipeline over a model that echoes, with what it takes to look at both.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use forebay_proto::{DataType, Shape, Tensor};

use super::super::*;
use crate::{
    device::{Simulated, simulated::Costs, simulated::Link},
    memory::Pool,
    model,
    repository::{DynamicBatching, Scheduling},
    request::{Job, Reply, Timings},
    scheduler::Pending,
    signature::TensorSpec,
    tensor::Placed,
};

/// Echoes. A first byte of 1 makes it fail, 2 makes it panic; it counts its passes.
#[derive(Debug)]
pub(super) struct Echo(Arc<AtomicUsize>);

impl Instance for Echo {
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, model::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let outputs: Vec<Placed> = inputs.into_iter().flatten().collect();
        let Placed::Host(first) = &outputs[0] else {
            unreachable!("these devices are on the host")
        };
        match first.data.as_ref()[0] {
            1 => Err(model::Error::Forward("planted".to_owned())),
            2 => panic!("planted"),
            _ => Ok(outputs),
        }
    }

    fn reset(&mut self) -> Result<(), model::Error> {
        Ok(())
    }
}

pub(super) struct Rig {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) pipeline: Pipeline,
    pub(super) budget: Budget,
    pub(super) statistics: Arc<Statistics>,
    pub(super) passes: Arc<AtomicUsize>,
}

pub(super) fn spec(name: &str) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        datatype: DataType::Uint8,
        dims: vec![4],
        optional: false,
    }
}

pub(super) fn rig<D: Device>(
    device: Arc<D>,
    scheduling: &Scheduling,
    depth: usize,
    mode: Mode,
) -> Rig {
    let scheduler = Arc::new(Scheduler::new(scheduling, 8, 1, 1000));
    let budget = Budget::new("test", 1 << 20);
    let statistics = Arc::<Statistics>::default();
    let passes = Arc::<AtomicUsize>::default();
    let pipeline = Pipeline::spawn(Parts {
        device,
        scheduler: Arc::clone(&scheduler),
        index: 0,
        instance: Box::new(Echo(Arc::clone(&passes))),
        context: Arc::new(Context {
            signature: Signature {
                inputs: vec![spec("x")],
                outputs: vec![spec("y")],
                max_batch_size: 8,
            },
            host_inputs: vec![],
            budget: budget.clone(),
            statistics: Arc::clone(&statistics),
        }),
        config: Config {
            pipeline_depth: NonZeroUsize::new(depth).unwrap(),
            mode,
            ..Config::default()
        },
    });
    Rig {
        scheduler,
        pipeline: pipeline.unwrap(),
        budget,
        statistics,
        passes,
    }
}

impl Rig {
    pub(super) fn submit(&self, rows: usize, byte: u8) -> Pending {
        let (reply, answer) = Reply::channel();
        let job = self.job(rows, byte, reply);
        self.scheduler.submit(job, answer).unwrap()
    }

    pub(super) fn job(&self, rows: usize, byte: u8, reply: Reply) -> Job {
        let shape = Shape::new(vec![i64::try_from(rows).unwrap(), 4]).unwrap();
        let input = Tensor::new("x", DataType::Uint8, shape, vec![byte; 4 * rows]).unwrap();
        Job {
            model: "echo".to_owned(),
            inputs: vec![Some(input)],
            rows,
            deadline: None,
            sequence: None,
            life: None,
            permit: Some(self.budget.charge(4 * rows as u64)),
            timings: Timings::new(Instant::now()),
            reply,
        }
    }

    /// Ends the pipeline and checks that nothing is held any more.
    pub(super) fn finish(self) -> usize {
        let peak = self.pipeline.peak_in_flight();
        self.scheduler.close();
        self.pipeline.join();
        assert_eq!(self.budget.used(), 0);
        peak
    }
}

pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

pub(super) fn stage_times(h2d: u64, compute: u64, d2h: u64) -> Arc<Simulated> {
    let link = |ms| Link {
        latency: Duration::from_millis(ms),
        bytes_per_second: None,
    };
    Arc::new(Simulated::new(
        Costs {
            h2d: link(h2d),
            compute: Duration::from_millis(compute),
            d2h: link(d2h),
            ..Costs::default()
        },
        Pool::new(1 << 20),
    ))
}

pub(super) fn batching() -> Scheduling {
    Scheduling::Dynamic(DynamicBatching {
        preferred_batch_sizes: vec![],
        max_queue_delay: Duration::ZERO,
    })
}
