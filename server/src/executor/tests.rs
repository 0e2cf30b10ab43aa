//! The executor on the simulated device: overlap, depth, order, and what happens when things fail.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use forebay_proto::{DataType, Shape, Tensor};
use tokio::sync::oneshot;

use super::*;
use crate::{
    device::{Cpu, Location, Simulated, Work, simulated::Costs, simulated::Link},
    error::Error,
    memory::Pool,
    model,
    repository::{DynamicBatching, Scheduling},
    request::{Answer, Job, Reply, Timings},
    scheduler::Pending,
    signature::TensorSpec,
    tensor::{HostTensor, Placed},
};

/// Echoes. A first byte of 1 makes it fail, 2 makes it panic; it counts its passes.
#[derive(Debug)]
struct Echo(Arc<AtomicUsize>);

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

struct Rig {
    scheduler: Arc<Scheduler>,
    pipeline: Pipeline,
    budget: Budget,
    statistics: Arc<Statistics>,
    passes: Arc<AtomicUsize>,
}

fn spec(name: &str) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        datatype: DataType::Uint8,
        dims: vec![4],
        optional: false,
    }
}

fn rig<D: Device>(device: Arc<D>, scheduling: &Scheduling, depth: usize, mode: Mode) -> Rig {
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
    fn submit(&self, rows: usize, byte: u8) -> Pending {
        let (reply, answer) = Reply::channel();
        let job = self.job(rows, byte, reply);
        self.scheduler.submit(job, answer).unwrap()
    }

    fn job(&self, rows: usize, byte: u8, reply: Reply) -> Job {
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
    fn finish(self) -> usize {
        let peak = self.pipeline.peak_in_flight();
        self.scheduler.close();
        self.pipeline.join();
        assert_eq!(self.budget.used(), 0);
        peak
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn stage_times(h2d: u64, compute: u64, d2h: u64) -> Arc<Simulated> {
    let link = |ms| Link {
        latency: Duration::from_millis(ms),
        bytes_per_second: None,
    };
    Arc::new(Simulated::new(
        Costs {
            h2d: link(h2d),
            compute: Duration::from_millis(compute),
            d2h: link(d2h),
        },
        Pool::new(1 << 20),
    ))
}

fn batching() -> Scheduling {
    Scheduling::Dynamic(DynamicBatching {
        preferred_batch_sizes: vec![],
        max_queue_delay: Duration::ZERO,
    })
}

mod timing {
    use super::*;

    #[test]
    fn fifty_batches_take_the_time_of_the_slowest_stage() {
        let device = stage_times(10, 20, 10);
        let rig = rig(Arc::clone(&device), &Scheduling::Each, 3, Mode::Stages);
        let began = Instant::now();
        let pending: Vec<_> = (0..50).map(|_| rig.submit(1, 7)).collect();
        for answer in pending {
            wait(answer).unwrap();
        }
        let took = began.elapsed();
        let bound = Duration::from_millis(50 * 20 + 20);
        println!("50 batches of 10/20/10 ms took {took:?}; the bound is {bound:?}");
        assert!(took <= bound.mul_f64(1.1), "{took:?}");
        assert_eq!(rig.finish(), 3);
        assert_eq!(device.hazards(), []);
    }
}

#[test]
fn no_more_batches_than_the_depth_are_in_flight() {
    for depth in [1, 2, 3] {
        let rig = rig(stage_times(1, 2, 1), &Scheduling::Each, depth, Mode::Stages);
        let pending: Vec<_> = (0..20).map(|_| rig.submit(1, 7)).collect();
        for answer in pending {
            wait(answer).unwrap();
        }
        assert_eq!(rig.finish(), depth);
    }
}

#[test]
fn batches_are_split_to_the_jobs_they_came_from() {
    for mode in [Mode::Inline, Mode::Stages, Mode::Auto] {
        let rig = rig(stage_times(1, 1, 1), &batching(), 3, mode);
        let pending: Vec<_> = (10..40)
            .map(|byte| rig.submit(1 + usize::from(byte) % 3, byte))
            .collect();
        for (answer, byte) in pending.into_iter().zip(10..40) {
            let outputs = wait(answer).unwrap().outputs;
            assert_eq!(outputs[0].name(), "y");
            assert_eq!(
                outputs[0].data()[..],
                vec![byte; 4 * (1 + usize::from(byte) % 3)]
            );
        }
        let report = rig.statistics.report("echo", 1);
        assert_eq!(
            report.inference_count,
            (10..40u64).map(|byte| 1 + byte % 3).sum::<u64>()
        );
        assert!(report.execution_count < 30, "nothing was joined");
        rig.finish();
    }
}

#[test]
fn a_failure_or_panic_fails_its_batch_only() {
    let cpu = rig(
        Arc::new(Cpu::new(Pool::new(1 << 20))),
        &Scheduling::Each,
        3,
        Mode::Auto,
    );
    let simulated = rig(stage_times(0, 0, 0), &Scheduling::Each, 3, Mode::Stages);
    for rig in [cpu, simulated] {
        let answers: Vec<_> = [0, 1, 2, 3]
            .map(|byte| rig.submit(1, byte))
            .into_iter()
            .map(wait)
            .collect();
        assert!(answers[0].is_ok() && answers[3].is_ok());
        assert!(
            matches!(&answers[1], Err(Error::Device(device::Error::Model(_)))),
            "{answers:?}"
        );
        assert!(
            matches!(&answers[2], Err(Error::Lost | Error::Device(_))),
            "{answers:?}"
        );
        drop(answers);
        rig.finish();
    }
}

#[test]
fn a_job_nobody_waits_for_is_not_run() {
    let rig = rig(stage_times(5, 5, 5), &Scheduling::Each, 1, Mode::Stages);
    let first = rig.submit(1, 7);
    let dropped: Vec<_> = (0..10).map(|_| rig.submit(1, 7)).collect();
    let last = rig.submit(1, 7);
    drop(dropped);
    wait(first).unwrap();
    wait(last).unwrap();
    let passes = rig.passes.load(Ordering::Relaxed);
    assert!(
        passes <= 3,
        "{passes} passes for two jobs, and one that may have been taken"
    );
    rig.finish();
}

#[test]
fn a_member_that_goes_before_its_batch_is_gathered_leaves_no_rows() {
    let rig = rig(
        Arc::new(Cpu::new(Pool::new(1 << 20))),
        &batching(),
        3,
        Mode::Inline,
    );
    let (gone, gone_answer) = Reply::channel();
    let (stays, _answer) = Reply::channel();
    let jobs = vec![rig.job(2, 7, gone), rig.job(1, 8, stays)];
    let depth = Arc::new(Depth::new(NonZeroUsize::MIN));
    let mut batch = Batch::new(jobs, depth.acquire());
    drop(gone_answer);
    assert!(batch.prune());
    let inputs = batch.gather(&Pool::new(0), false).unwrap();
    let input = inputs[0].as_ref().unwrap();
    assert_eq!(input.shape.dims(), [1, 4]);
    assert_eq!(input.data.as_ref(), [8; 4]);
    drop((batch, inputs));
    rig.finish();
}

#[test]
fn a_deadline_that_has_passed_is_answered_without_a_pass() {
    let rig = rig(stage_times(0, 0, 0), &Scheduling::Each, 3, Mode::Stages);
    let (reply, answer) = Reply::channel();
    let mut job = rig.job(1, 7, reply);
    job.deadline = Some(Instant::now());
    let pending = rig.scheduler.submit(job, answer).unwrap();
    assert!(matches!(wait(pending), Err(Error::DeadlineExceeded)));
    assert_eq!(rig.passes.load(Ordering::Relaxed), 0);
    rig.finish();
}

#[test]
fn closing_answers_what_is_queued_and_refuses_more() {
    let rig = rig(stage_times(1, 1, 1), &Scheduling::Each, 3, Mode::Stages);
    let pending: Vec<_> = (0..10).map(|_| rig.submit(1, 7)).collect();
    rig.scheduler.close();
    let (reply, answer): (Reply, oneshot::Receiver<Result<Answer, Error>>) = Reply::channel();
    let refused = rig.scheduler.submit(rig.job(1, 7, reply), answer);
    assert!(matches!(refused, Err(Error::ShuttingDown)));
    for answer in pending {
        wait(answer).unwrap();
    }
    rig.finish();
}

/// A device on which one stage forgets to wait for the one before it.
#[derive(Debug)]
struct ForgetsToWait {
    device: Simulated,
    forgets: &'static str,
}

#[derive(Debug)]
struct Named(<Simulated as Device>::Stream, String);

impl Device for ForgetsToWait {
    type Stream = Named;
    type Event = <Simulated as Device>::Event;
    type Buffer = <Simulated as Device>::Buffer;

    fn location(&self) -> Location {
        self.device.location()
    }
    fn has_own_memory(&self) -> bool {
        true
    }
    fn pool(&self) -> &Pool {
        self.device.pool()
    }
    fn open_stream(&self, name: &str) -> Result<Named, device::Error> {
        Ok(Named(self.device.open_stream(name)?, name.to_owned()))
    }
    fn upload(
        &self,
        stream: &Named,
        tensors: Vec<Option<HostTensor>>,
        on_host: &[bool],
    ) -> Result<Self::Buffer, device::Error> {
        self.device.upload(&stream.0, tensors, on_host)
    }
    fn launch(
        &self,
        stream: &Named,
        inputs: Self::Buffer,
        work: Work,
    ) -> Result<Self::Buffer, device::Error> {
        self.device.launch(&stream.0, inputs, work)
    }
    fn download(
        &self,
        stream: &Named,
        outputs: Self::Buffer,
    ) -> Result<Self::Buffer, device::Error> {
        self.device.download(&stream.0, outputs)
    }
    fn record(&self, stream: &Named) -> Result<Self::Event, device::Error> {
        self.device.record(&stream.0)
    }
    fn wait(&self, stream: &Named, event: &Self::Event) -> Result<(), device::Error> {
        if stream.1.starts_with(self.forgets) {
            return Ok(());
        }
        self.device.wait(&stream.0, event)
    }
    fn synchronize(&self, event: &Self::Event) -> Result<(), device::Error> {
        self.device.synchronize(event)
    }
    fn finish(&self, downloaded: Self::Buffer) -> Result<Vec<HostTensor>, device::Error> {
        self.device.finish(downloaded)
    }
    fn elapsed(&self, from: &Self::Event, to: &Self::Event) -> Duration {
        self.device.elapsed(from, to)
    }
}

#[test]
fn a_pipeline_that_forgets_an_event_is_found_out() {
    for (forgets, user, writer) in [
        ("compute", "a forward pass on 'compute-0'", "on 'h2d-0'"),
        ("d2h", "a download on 'd2h-0'", "on 'compute-0'"),
    ] {
        let simulated = (*stage_times(1, 1, 1)).clone();
        let device = Arc::new(ForgetsToWait {
            device: simulated.clone(),
            forgets,
        });
        let rig = rig(Arc::clone(&device), &Scheduling::Each, 3, Mode::Stages);
        let error = wait(rig.submit(1, 7)).unwrap_err().to_string();
        assert!(error.contains(user) && error.contains(writer), "{error}");
        assert!(simulated.hazards()[0].to_string().contains(user));
        rig.finish();
    }
}
