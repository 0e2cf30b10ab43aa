//! Answers that are larger than their requests, and that nobody reads.

use forebay_proto::{DataType, Shape};

use super::{super::*, rig::*};
use crate::{
    error::Error,
    model,
    repository::Scheduling,
    signature::TensorSpec,
    tensor::{HostData, HostTensor, Placed},
};

/// Bytes of an answer. Its request has 4, and the rig's budget 1 MiB.
const ANSWER: usize = 1 << 18;

#[derive(Debug)]
struct Grows;

impl Instance for Grows {
    fn forward(&mut self, _: Vec<Option<Placed>>) -> Result<Vec<Placed>, model::Error> {
        Ok(vec![Placed::Host(HostTensor {
            datatype: DataType::Uint8,
            shape: Shape::new(vec![1, ANSWER as i64]).unwrap(),
            data: HostData::Wire(vec![0u8; ANSWER].into()),
        })])
    }

    fn reset(&mut self) -> Result<(), model::Error> {
        Ok(())
    }
}

#[test]
fn answers_that_nobody_reads_take_no_more_than_the_budget_twice() {
    const DEPTH: usize = 3;
    let wiring = Wiring {
        scheduling: Scheduling::Each,
        depth: DEPTH,
        mode: Mode::Stages,
        instances: 1,
        micro_batches: MicroBatches::Auto,
    };
    let output = TensorSpec {
        dims: vec![ANSWER as i64],
        ..spec("y")
    };
    let rig = rig_giving(&stage_times(1, 1, 1), &wiring, output, || Box::new(Grows));
    let pending: Vec<_> = (0..40).map(|_| rig.submit(1, 7)).collect();
    let unread: Vec<_> = pending.into_iter().map(wait).collect();
    let answered = unread.iter().filter(|answer| answer.is_ok()).count();
    // The last ones were under way when the budget was found overdrawn.
    let most = 2 * (1 << 20) / ANSWER;
    assert!((most..=most + 1 + DEPTH).contains(&answered), "{answered}");
    let refused = unread.iter().filter_map(|answer| answer.as_ref().err());
    assert!(
        refused
            .into_iter()
            .all(|error| matches!(error, Error::UnreadAnswers))
    );
    drop(unread);
    wait(rig.submit(1, 7)).unwrap();
    rig.finish();
}
