//! The warm-up of instances that count what they run.

use std::{
    mem,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use forebay_proto::DataType;

use super::{progress::ranges, *};
use crate::{
    admission::Budget,
    device::{Cpu, Simulated, simulated::Costs},
    executor::{Config, Context, OutputShapes, Parts},
    memory::Pool,
    model::{
        self, Instance,
        sample::{self, Values},
    },
    repository::{DynamicBatching, SequenceBatching, pbtxt::Schema},
    scheduler::Scheduler,
    statistics::Statistics,
    telemetry::captured,
    tensor::Placed,
};

/// Rows and first bytes of passes.
type Passes = Arc<Mutex<Vec<(i64, u8)>>>;

/// Echoes, and notes rows and first bytes of its passes. Fails from so many rows on.
#[derive(Debug)]
struct Noting {
    passes: Passes,
    resets: Arc<AtomicUsize>,
    fails_from: i64,
    /// What the next pass takes.
    slow: Arc<Mutex<Duration>>,
    /// What each row of a pass takes.
    row: Arc<Mutex<Duration>>,
}

impl Instance for Noting {
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, model::Error> {
        std::thread::sleep(mem::take(&mut *self.slow.lock().unwrap()));
        let outputs: Vec<Placed> = inputs.into_iter().flatten().collect();
        let Placed::Host(first) = &outputs[0] else {
            unreachable!("these devices are on the host")
        };
        let rows = first.shape.dims()[0];
        let row = *self.row.lock().unwrap();
        std::thread::sleep(row * u32::try_from(rows).unwrap());
        self.passes
            .lock()
            .unwrap()
            .push((rows, first.data.as_ref()[0]));
        if rows >= self.fails_from {
            return Err(model::Error::Forward("planted".to_owned()));
        }
        Ok(outputs)
    }

    fn reset(&mut self) -> Result<(), model::Error> {
        self.resets.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Rig {
    settings: ModelSettings,
    scheduler: Arc<Scheduler>,
    pipelines: Vec<Pipeline>,
    passes: Vec<Passes>,
    resets: Arc<AtomicUsize>,
    slow: Arc<Mutex<Duration>>,
    row: Arc<Mutex<Duration>>,
    pool: Pool,
}

/// Makes two cold instances of a model with `more` in its configuration.
fn rig(more: &str, simulated: bool, fails_from: i64) -> Rig {
    let text = format!(
        "backend: 'identity' max_batch_size: 4 {more} \
         input {{ name: 'x' data_type: TYPE_UINT8 dims: 3 }} \
         output {{ name: 'y' data_type: TYPE_UINT8 dims: 3 }}"
    );
    let config = Schema::new().parse(Path::new("config.pbtxt"), text.as_bytes());
    let settings = ModelSettings::new("m", config.unwrap()).unwrap();
    let scheduler = Arc::new(Scheduler::new(&settings.scheduling, 4, 2, 100));
    let pool = Pool::new(1 << 20);
    let mut rig = Rig {
        settings,
        scheduler,
        pipelines: vec![],
        passes: vec![],
        resets: Arc::default(),
        slow: Arc::default(),
        row: Arc::default(),
        pool: pool.clone(),
    };
    for index in 0..2 {
        let passes = Arc::default();
        rig.passes.push(Arc::clone(&passes));
        let instance = Noting {
            passes,
            resets: Arc::clone(&rig.resets),
            fails_from,
            slow: Arc::clone(&rig.slow),
            row: Arc::clone(&rig.row),
        };
        let spawned = if simulated {
            let device = Simulated::new(Costs::default(), pool.clone());
            Pipeline::spawn_cold(parts(&rig, device, index, instance))
        } else {
            Pipeline::spawn_cold(parts(&rig, Cpu::new(pool.clone()), index, instance))
        };
        rig.pipelines.push(spawned.unwrap());
    }
    rig
}

fn parts<D>(rig: &Rig, device: D, index: usize, instance: Noting) -> Parts<D>
where
    D: crate::device::Device,
{
    Parts {
        device: Arc::new(device),
        scheduler: Arc::clone(&rig.scheduler),
        index,
        instance: Box::new(instance),
        context: Arc::new(Context {
            signature: rig.settings.signature.clone(),
            host_inputs: vec![],
            budget: Budget::new("test", 1 << 20),
            statistics: Arc::<Statistics>::default(),
            output_shapes: OutputShapes::new("m", 1, &rig.settings.signature),
        }),
        config: Config::default(),
    }
}

impl Rig {
    fn warmup(&self, limit: Duration) -> Warmup<'_> {
        Warmup {
            settings: &self.settings,
            pipelines: &self.pipelines,
            limit,
            extent: WarmupSizes::All,
            row: None,
        }
    }

    fn run(&self, limit: Duration) -> Result<(), Failed> {
        self.warmup(limit).run()
    }

    /// Returns the rows of the passes of each instance.
    fn rows(&self) -> Vec<Vec<i64>> {
        let rows = |passes: &Passes| {
            let passes = passes.lock().unwrap();
            passes.iter().map(|(rows, _)| *rows).collect()
        };
        self.passes.iter().map(rows).collect()
    }

    fn finish(self) {
        self.scheduler.close();
        for mut pipeline in self.pipelines {
            pipeline.serve().unwrap();
            pipeline.join();
        }
    }
}

const LONG: Duration = Duration::from_secs(60);
const SAMPLE: &str = "model_warmup { name: 's' batch_size: 3 count: 2 \
     inputs { key: 'x' value { data_type: TYPE_UINT8 dims: 3 random_data: true } } }";

#[test]
fn every_instance_runs_every_size_and_forgets_it() {
    let mut rig = rig("", false, 100);
    rig.run(LONG).unwrap();
    assert_eq!(rig.rows(), [[1, 1, 4, 2, 3], [1, 1, 4, 2, 3]]);
    assert_eq!(rig.resets.load(Ordering::Relaxed), 0);
    for pipeline in &mut rig.pipelines {
        pipeline.serve().unwrap();
    }
    assert_eq!(rig.resets.load(Ordering::Relaxed), 2);
    rig.finish();
}

#[test]
fn the_first_pass_of_all_does_not_count_for_the_limit() {
    let rig = rig("", false, 100);
    let limit = Duration::from_secs(1);
    // As where a device's libraries are loaded.
    *rig.slow.lock().unwrap() = limit;
    rig.run(limit).unwrap();
    assert_eq!(rig.rows()[0], [1, 1, 4, 2, 3]);
    rig.finish();
}

#[test]
fn on_the_host_sizes_that_have_nothing_to_make_are_left_out_unless_all_are_asked_for() {
    for (extent, expected) in [
        (WarmupSizes::Auto, &[1, 1, 2][..]),
        (WarmupSizes::All, &[1, 1, 4, 2, 3]),
    ] {
        let rig = rig("", false, 100);
        *rig.row.lock().unwrap() = Duration::from_millis(60);
        let mut warmup = rig.warmup(LONG);
        warmup.extent = extent;
        warmup.run().unwrap();
        assert_eq!(rig.rows(), [expected, expected]);
        rig.finish();
    }
}

#[test]
fn a_device_with_memory_of_its_own_runs_each_size_on_its_own_and_in_flight_with_others() {
    let rig = rig("dynamic_batching { }", true, 100);
    rig.run(LONG).unwrap();
    // Batches may be cut, so passes may have fewer rows.
    for rows in rig.rows() {
        assert_eq!(rows[..4], [1, 1, 1, 1]);
        assert_eq!(rows.iter().sum::<i64>(), 5 + 4 * (4 + 2 + 3));
    }
    rig.finish();
}

#[test]
fn nothing_is_allocated_after_the_warm_up() {
    let rig = rig("dynamic_batching { }", true, 100);
    rig.run(LONG).unwrap();
    let fresh = rig.pool.usage().fresh;
    assert!(fresh > 0);
    // As many at once as can be in flight.
    let warmup = rig.warmup(LONG);
    let item = Item::made_up(&rig.settings.signature.inputs).unwrap();
    for rows in [4, 1, 3, 2, 4] {
        warmup.pass(&item, rows, 3).unwrap();
    }
    assert_eq!(rig.pool.usage().fresh, fresh);
    rig.finish();
}

#[test]
fn a_sample_runs_first_and_its_data_serve_for_the_other_sizes() {
    let rig = rig(SAMPLE, false, 100);
    rig.run(LONG).unwrap();
    assert_eq!(rig.rows()[0], [3, 3, 1, 1, 4, 2, 3]);
    let random = sample::elements_of(DataType::Uint8, 3, Values::Random)[0];
    let passes = rig.passes[0].lock().unwrap().clone();
    assert!(
        passes.iter().all(|(_, first)| *first == random),
        "{passes:?}"
    );
    rig.finish();
}

#[test]
fn a_sample_that_fails_is_told_and_made_up_sizes_that_fail_are_not() {
    let failing = rig(SAMPLE, false, 3);
    let error = failing.run(LONG).unwrap_err().to_string();
    assert!(
        error.starts_with("model_warmup 's': ") && error.contains("planted"),
        "{error}"
    );
    failing.finish();
    let failing = rig("", false, 4);
    let log = captured(|| failing.run(LONG).unwrap());
    assert_eq!(failing.rows()[0], [1, 1, 4]);
    failing.finish();
    assert_eq!(log.lines().count(), 1, "{log}");
    for part in ["WARN", "the warm-up ends here", "rows=4", "planted"] {
        assert!(log.contains(part), "{log}");
    }
}

#[test]
fn no_time_is_for_no_sizes_but_for_samples() {
    let rig = rig(SAMPLE, false, 100);
    rig.run(Duration::ZERO).unwrap();
    assert_eq!(rig.rows()[0], [3, 3]);
    rig.finish();
}

#[test]
fn one_row_is_run_once_where_its_time_is_known_of_a_single_instance() {
    let rig = rig("", false, 100);
    let mut warmup = rig.warmup(LONG);
    let [first, later] = [Duration::from_millis(1); 2];
    warmup.row = Some(RowTime { first, later });
    warmup.pipelines = &rig.pipelines[..1];
    warmup.run().unwrap();
    assert_eq!(rig.rows()[0], [1, 4, 2, 3]);
    warmup.pipelines = &rig.pipelines;
    warmup.run().unwrap();
    assert_eq!(rig.rows()[1], [1, 1, 4, 2, 3]);
    rig.finish();
}

#[test]
fn no_more_sizes_are_run_where_the_first_pass_of_all_is_known_to_have_made_little() {
    for (first, rows) in [(55, vec![1]), (80, vec![1, 2])] {
        let rig = rig("", false, 100);
        *rig.row.lock().unwrap() = Duration::from_millis(50);
        let mut warmup = rig.warmup(LONG);
        let (first, later) = (Duration::from_millis(first), Duration::from_millis(50));
        warmup.row = Some(RowTime { first, later });
        warmup.extent = WarmupSizes::Auto;
        warmup.pipelines = &rig.pipelines[..1];
        warmup.run().unwrap();
        assert_eq!(rig.rows()[0], rows);
        rig.finish();
    }
}

#[test]
fn the_scheduler_is_not_asked_before_the_pipeline_serves() {
    let mut rig = rig("", false, 100);
    let (reply, answer) = Reply::channel();
    let warmup = Warmup {
        settings: &rig.settings,
        pipelines: &rig.pipelines,
        limit: LONG,
        extent: WarmupSizes::All,
        row: None,
    };
    let item = Item::made_up(&rig.settings.signature.inputs).unwrap();
    let (mut job, _) = warmup.job(&item, 3).unwrap();
    job.reply = reply;
    let (_, unused) = Reply::channel();
    let pending = rig.scheduler.submit(job, unused).unwrap();
    rig.run(LONG).unwrap();
    assert_eq!(rig.rows(), [[1, 1, 4, 2, 3], [1, 1, 4, 2, 3]]);
    for pipeline in &mut rig.pipelines {
        pipeline.serve().unwrap();
    }
    answer.blocking_recv().unwrap().unwrap();
    drop(pending);
    rig.finish();
}

#[test]
fn sizes_come_in_the_order_of_their_use() {
    let dynamic = |preferred: &[usize]| {
        Scheduling::Dynamic(DynamicBatching {
            preferred_batch_sizes: preferred.to_vec(),
            max_queue_delay: Duration::ZERO,
        })
    };
    assert_eq!(sizes(7, &dynamic(&[6])), [1, 7, 6, 2, 4, 3, 5]);
    assert_eq!(sizes(0, &Scheduling::Each), [1]);
    let no_limit = usize::try_from(i32::MAX).unwrap();
    let some = sizes(no_limit, &Scheduling::Each);
    assert_eq!(some[..2], [1, no_limit]);
    assert!(some.len() < 5000, "{}", some.len());
    assert_eq!(sizes(1, &dynamic(&[])), [1]);
    let max_idle = Duration::ZERO;
    let sequences = Scheduling::Sequence(SequenceBatching { max_idle });
    assert_eq!(sizes(8, &sequences), [1]);
}

#[test]
fn ranges_are_short() {
    assert_eq!(ranges(&BTreeSet::from([1, 3, 4, 5, 9])), "1, 3..=5, 9");
    assert_eq!(ranges(&BTreeSet::new()), "");
}
