use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use forebay_proto::{DataType, SequenceControl, Shape, Tensor};

use super::*;
use crate::repository::SequenceBatching;

/// A tensor's data. Notes whether the queue's lock is free where it is dropped.
struct Watch {
    queue: Arc<Scheduler>,
    is_free: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Watch {
    fn as_ref(&self) -> &[u8] {
        &[7]
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let is_free = self.queue.state.try_lock().is_ok();
        self.is_free.store(is_free, Ordering::Relaxed);
    }
}

#[test]
fn a_job_that_starts_no_sequence_is_dropped_outside_the_lock() {
    let max_idle = Duration::from_secs(1);
    let scheduling = Scheduling::Sequence(SequenceBatching { max_idle });
    let queue = Arc::new(Scheduler::new(&scheduling, 1, 1, 100));
    let is_free = Arc::new(AtomicBool::new(false));
    let data = Bytes::from_owner(Watch {
        queue: Arc::clone(&queue),
        is_free: Arc::clone(&is_free),
    });
    let shape = Shape::new(vec![1]).unwrap();
    let tensor = Tensor::new("x", DataType::Uint8, shape, data).unwrap();
    let (mut job, answer) = Job::of(vec![Some(tensor)]);
    job.sequence = Some(SequenceControl {
        id: SequenceId::Number(1),
        start: false,
        end: false,
    });
    let refused = queue.submit(job, answer);
    assert!(matches!(refused, Err(Error::MissingStart { .. })));
    assert!(is_free.load(Ordering::Relaxed));
}
