//! Outputs whose shapes are not those that the configuration says.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use forebay_proto::{DataType, Shape};

use super::{super::*, rig::*};
use crate::{
    model,
    signature::TensorSpec,
    tensor::{HostData, HostTensor, Placed},
};

/// Gives a tensor of zeros, of the shape that is told for the rows of a pass.
#[derive(Debug)]
struct Shaped {
    shape: fn(i64) -> Vec<i64>,
    passes: Arc<AtomicUsize>,
}

impl Instance for Shaped {
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, model::Error> {
        self.passes.fetch_add(1, Ordering::Relaxed);
        let Some(Some(Placed::Host(input))) = inputs.into_iter().next() else {
            unreachable!("there is an input, and these devices are on the host")
        };
        let shape = Shape::new((self.shape)(input.shape.dims()[0])).unwrap();
        let zeros = vec![0u8; usize::try_from(shape.elements()).unwrap()];
        Ok(vec![Placed::Host(HostTensor {
            datatype: DataType::Uint8,
            shape,
            data: HostData::Wire(zeros.into()),
        })])
    }

    fn reset(&mut self) -> Result<(), model::Error> {
        Ok(())
    }
}

/// Runs batches of 8 rows in `pieces`, of an instance that gives outputs of `shape` where `output` is
/// expected.
fn giving(
    output: TensorSpec,
    shape: fn(i64) -> Vec<i64>,
    pieces: usize,
) -> (Rig, Arc<AtomicUsize>) {
    let passes = Arc::<AtomicUsize>::default();
    let wiring = Wiring {
        scheduling: batching_for(Duration::from_secs(60)),
        depth: 3,
        mode: Mode::Stages,
        instances: 1,
        micro_batches: MicroBatches::Pieces(NonZeroUsize::new(pieces).unwrap()),
    };
    let instance = || -> Box<dyn Instance> {
        Box::new(Shaped {
            shape,
            passes: Arc::clone(&passes),
        })
    };
    let rig = rig_giving(&stage_times(0, 0, 0), &wiring, output, instance);
    (rig, passes)
}

/// Runs jobs of these rows as one batch, and returns the shapes that they are answered with.
fn shapes(rig: &Rig, jobs: &[usize]) -> Vec<Result<Vec<i64>, String>> {
    let jobs: Vec<_> = jobs.iter().map(|&rows| rig.submit(rows, 7)).collect();
    let answers = jobs.into_iter().map(|job| match wait(job) {
        Ok(answer) => Ok(answer.outputs[0].shape().dims().to_vec()),
        Err(error) => Err(error.to_string()),
    });
    answers.collect()
}

#[test]
fn rows_of_another_shape_than_dims_are_split_to_their_jobs() {
    let (rig, _) = giving(spec("y"), |rows| vec![rows, 6], 1);
    let expected = [3, 5].map(|rows| Ok::<Vec<i64>, String>(vec![rows, 6]));
    assert_eq!(shapes(&rig, &[3, 5]), expected);
    rig.finish();
}

#[test]
fn an_output_without_the_rows_of_its_batch_fails_it() {
    let (rig, _) = giving(spec("y"), |rows| vec![rows - 1, 4], 1);
    for answer in shapes(&rig, &[3, 5]) {
        let error = answer.unwrap_err();
        let text = "output 'y' of the model is of shape [7, 4], but its configuration says [8, 4]";
        assert!(error.starts_with(text), "{error}");
    }
    let report = rig.statistics.report("echo", 1);
    assert_eq!((report.inference_count, report.execution_count), (0, 0));
    rig.finish();
}

#[test]
fn an_output_comes_in_the_shape_of_dims_where_it_is_reshaped_also_in_pieces() {
    let output = || TensorSpec {
        reshape: Some(vec![]),
        dims: vec![1],
        ..spec("y")
    };
    for pieces in [1, 3] {
        let (rig, _) = giving(output(), |rows| vec![rows], pieces);
        let expected = [2, 6].map(|rows| Ok::<Vec<i64>, String>(vec![rows, 1]));
        assert_eq!(shapes(&rig, &[2, 6]), expected);
        rig.finish();
    }
    let (rig, _) = giving(output(), |rows| vec![rows, 1], 1);
    for answer in shapes(&rig, &[2, 6]) {
        let error = answer.unwrap_err();
        let text = "is of shape [8, 1], but its configuration says [8], in its reshape";
        assert!(error.contains(text), "{error}");
    }
    rig.finish();
}

#[test]
fn a_batch_is_not_cut_any_more_once_outputs_differ_from_their_dims() {
    // As of a model that pads to the longest row.
    let (rig, passes) = giving(spec("y"), |rows| vec![rows, rows], 3);
    let answers = shapes(&rig, &[8]);
    let error = answers[0].as_ref().unwrap_err();
    let text = "'y' of the model is of shape [2, 2] in one piece of a batch and [3, 3] in another";
    assert!(error.contains(text), "{error}");
    assert_eq!(passes.load(Ordering::Relaxed), 3);
    let whole: Result<Vec<i64>, String> = Ok(vec![8, 8]);
    assert_eq!(shapes(&rig, &[8]), [whole]);
    assert_eq!(passes.load(Ordering::Relaxed), 4);
    rig.finish();
}
