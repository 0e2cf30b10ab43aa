//! A pipeline over a model that echoes, with what it takes to look at both.

use std::{
    collections::BTreeMap,
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
    device::{
        Simulated,
        simulated::{Costs, Fault, FaultKind, Faults, Link},
    },
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
    pub(super) pipelines: Vec<Pipeline>,
    pub(super) budget: Budget,
    pub(super) statistics: Arc<Statistics>,
    pub(super) passes: Arc<AtomicUsize>,
}

pub(super) fn spec(name: &str) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        datatype: DataType::Uint8,
        dims: vec![4],
        reshape: None,
        optional: false,
    }
}

/// Makes an instance that counts in `passes`.
pub(super) fn echo(passes: &Arc<AtomicUsize>) -> Box<dyn Instance> {
    Box::new(Echo(Arc::clone(passes)))
}

/// How a rig is wired.
#[derive(Debug, Clone)]
pub(super) struct Wiring {
    pub(super) scheduling: Scheduling,
    pub(super) depth: usize,
    pub(super) mode: Mode,
    pub(super) instances: usize,
    pub(super) micro_batches: MicroBatches,
}

pub(super) fn rig<D: Device>(
    device: Arc<D>,
    scheduling: &Scheduling,
    depth: usize,
    mode: Mode,
) -> Rig {
    let passes = Arc::<AtomicUsize>::default();
    let wiring = Wiring {
        scheduling: scheduling.clone(),
        depth,
        mode,
        instances: 1,
        micro_batches: MicroBatches::Auto,
    };
    let mut rig = rig_of(&device, &wiring, || echo(&passes));
    rig.passes = passes;
    rig
}

/// Makes a rig of instances of another kind.
pub(super) fn rig_of<D: Device>(
    device: &Arc<D>,
    wiring: &Wiring,
    instance: impl Fn() -> Box<dyn Instance>,
) -> Rig {
    rig_giving(device, wiring, spec("y"), instance)
}

/// Makes a rig of instances whose output is `output`.
pub(super) fn rig_giving<D: Device>(
    device: &Arc<D>,
    wiring: &Wiring,
    output: TensorSpec,
    instance: impl Fn() -> Box<dyn Instance>,
) -> Rig {
    let signature = Signature {
        inputs: vec![spec("x")],
        outputs: vec![output],
        max_batch_size: 8,
    };
    let instances = wiring.instances;
    let scheduler = Arc::new(Scheduler::new(&wiring.scheduling, 8, instances, 1000));
    let budget = Budget::new("test", 1 << 20);
    let statistics = Arc::<Statistics>::default();
    let pipelines = (0..instances).map(|index| {
        Pipeline::spawn(Parts {
            device: Arc::clone(device),
            scheduler: Arc::clone(&scheduler),
            index,
            instance: instance(),
            context: Arc::new(Context {
                output_shapes: OutputShapes::new("echo", 1, &signature),
                signature: signature.clone(),
                host_inputs: vec![],
                budget: budget.clone(),
                statistics: Arc::clone(&statistics),
            }),
            config: Config {
                pipeline_depth: NonZeroUsize::new(wiring.depth).unwrap(),
                mode: wiring.mode,
                micro_batches: wiring.micro_batches,
            },
        })
        .unwrap()
    });
    Rig {
        pipelines: pipelines.collect(),
        scheduler,
        budget,
        statistics,
        passes: Arc::default(),
    }
}

impl Rig {
    pub(super) fn submit(&self, rows: usize, byte: u8) -> Pending {
        let (reply, answer) = Reply::channel();
        let job = self.job(rows, byte, reply);
        self.scheduler.submit(job, answer).unwrap()
    }

    pub(super) fn job(&self, rows: usize, byte: u8, reply: Reply) -> Job {
        self.job_of(vec![byte; 4 * rows], reply)
    }

    /// Makes a job of rows of 4 bytes.
    pub(super) fn job_of(&self, bytes: Vec<u8>, reply: Reply) -> Job {
        let rows = bytes.len() / 4;
        let permit = self.budget.charge(bytes.len() as u64);
        let shape = Shape::new(vec![i64::try_from(rows).unwrap(), 4]).unwrap();
        let input = Tensor::new("x", DataType::Uint8, shape, bytes).unwrap();
        Job {
            model: "echo".to_owned(),
            inputs: vec![Some(input)],
            rows,
            deadline: None,
            queue_until: None,
            sequence: None,
            life: None,
            permit: Some(permit),
            timings: Timings::new(Instant::now()),
            reply,
        }
    }

    /// Ends the pipelines and checks that nothing is held any more. Returns the most batches that
    /// were in flight in one of them.
    pub(super) fn finish(self) -> usize {
        let peaks = self.pipelines.iter().map(Pipeline::peak_in_flight);
        let peak = peaks.max().unwrap_or(0);
        self.scheduler.close();
        self.pipelines.into_iter().for_each(Pipeline::join);
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
    batching_for(Duration::ZERO)
}

/// Batches wait so long for company; a full one goes at once.
pub(super) fn batching_for(max_queue_delay: Duration) -> Scheduling {
    Scheduling::Dynamic(DynamicBatching {
        preferred_batch_sizes: vec![],
        max_queue_delay,
    })
}

/// A device that takes no time, and on which things go wrong.
pub(super) fn faulty(faults: Faults) -> Arc<Simulated> {
    let pool = Pool::new(1 << 20);
    Arc::new(Simulated::with_faults(Costs::default(), pool, faults))
}

/// One operation that fails.
pub(super) fn fault(number: u64, kind: FaultKind, at_once: bool) -> Faults {
    Faults {
        operations: BTreeMap::from([(number, Fault { kind, at_once })]),
        ..Faults::default()
    }
}

/// Checks that the device has all its memory back, also that of the host which it copies to, and
/// that it was used in order.
pub(super) fn assert_clean(device: &Simulated) {
    assert_eq!(device.hazards(), []);
    assert_eq!(device.taken_bytes(), 0, "memory of the device is lost");
    assert_eq!(device.pool().usage().leased_bytes, 0, "slabs are lost");
}
