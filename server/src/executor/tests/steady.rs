//! The steady path leases and returns, and allocates nothing.

use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use forebay_proto::{DataType, Shape, Tensor};

use super::{super::*, rig::wait};
use crate::{
    device::{Simulated, simulated::Costs},
    memory::Pool,
    model,
    repository::Scheduling,
    request::{Job, Reply, Timings},
    signature::TensorSpec,
    tensor::Placed,
};

/// Rows of batches, in several size classes of slabs.
const ROWS: [usize; 6] = [1, 8, 3, 40, 5, 17];

/// Bytes of a row.
const ROW: i64 = 3000;

#[derive(Debug)]
struct Echo;

impl Instance for Echo {
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, model::Error> {
        Ok(inputs.into_iter().flatten().collect())
    }

    fn reset(&mut self) -> Result<(), model::Error> {
        Ok(())
    }
}

fn spec(name: &str) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        datatype: DataType::Uint8,
        dims: vec![ROW],
        reshape: None,
        optional: false,
    }
}

fn job(rows: usize, reply: Reply) -> Job {
    let shape = Shape::new(vec![i64::try_from(rows).unwrap(), ROW]).unwrap();
    let bytes = vec![7; usize::try_from(shape.elements()).unwrap()];
    Job {
        model: "echo".to_owned(),
        inputs: vec![Some(
            Tensor::new("x", DataType::Uint8, shape, bytes).unwrap(),
        )],
        rows,
        deadline: None,
        queue_until: None,
        sequence: None,
        life: None,
        permit: None,
        timings: Timings::new(Instant::now()),
        reply,
    }
}

#[test]
fn no_slab_is_allocated_for_sizes_that_were_seen() {
    for mode in [Mode::Stages, Mode::Inline] {
        let device = Arc::new(Simulated::new(Costs::default(), Pool::new(1 << 24)));
        let scheduler = Arc::new(Scheduler::new(&Scheduling::Each, 64, 1, 100));
        let signature = Signature {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            max_batch_size: 64,
        };
        let pipeline = Pipeline::spawn(Parts {
            device: Arc::clone(&device),
            scheduler: Arc::clone(&scheduler),
            index: 0,
            instance: Box::new(Echo),
            context: Arc::new(Context {
                output_shapes: OutputShapes::new("echo", 1, &signature),
                signature,
                host_inputs: vec![],
                budget: Budget::new("test", 1 << 30),
                statistics: Arc::default(),
            }),
            config: Config {
                pipeline_depth: NonZeroUsize::new(3).unwrap(),
                mode,
                micro_batches: MicroBatches::Off,
            },
        });
        let run = |batches: usize| {
            for rows in ROWS.into_iter().cycle().take(batches) {
                let (reply, answer) = Reply::channel();
                let pending = scheduler.submit(job(rows, reply), answer).unwrap();
                let outputs = wait(pending).unwrap().outputs;
                assert_eq!(outputs[0].data().len(), rows * 3000);
            }
        };
        run(2 * ROWS.len());
        let warm = device.pool().usage();
        assert!(warm.fresh > 0, "nothing went through the pool");
        run(200);
        assert_eq!(device.pool().usage().fresh, warm.fresh, "{mode:?}");
        scheduler.close();
        pipeline.unwrap().join();
        assert_eq!(device.pool().usage().leased_bytes, 0);
    }
}
