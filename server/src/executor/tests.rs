//! The executor on the simulated device: depth, order, and what happens when things fail.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Instant,
};

use tokio::sync::oneshot;

use super::*;
use crate::{
    device::Cpu,
    error::Error,
    memory::Pool,
    repository::Scheduling,
    request::{Answer, Reply},
};

mod choice;
mod copies;
mod lost;
mod micro;
mod planted;
mod property;
mod recovery;
mod rig;
mod shapes;
mod steady;
mod timing;
mod unread;

use rig::*;

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
    let jobs = [rig.job(2, 7, gone), rig.job(1, 8, stays)];
    let jobs = jobs.into_iter().map(Box::new).collect();
    let depth = Arc::new(Depth::default());
    let mut batch = Batch::new(jobs, depth.enter());
    drop(gone_answer);
    assert!(batch.prune());
    let inputs = batch.gather(&Pool::new(0), false).unwrap();
    let input = inputs[0].as_ref().unwrap();
    assert_eq!(input.shape.dims(), [1, 4]);
    assert_eq!(input.data.as_ref(), [8; 4]);
    drop((batch, inputs));
    rig.finish();
}

/// Notes how many batches are in flight when an answer comes.
struct Seen(Arc<Depth>, AtomicUsize);

impl Wake for Seen {
    fn wake(self: Arc<Self>) {
        self.1.store(self.0.in_flight(), Ordering::Relaxed);
    }
}

#[test]
fn room_is_given_back_before_an_error_goes() {
    let rig = rig(stage_times(0, 0, 0), &batching(), 1, Mode::Inline);
    let depth = Arc::new(Depth::default());
    let seen = Arc::new(Seen(Arc::clone(&depth), AtomicUsize::new(usize::MAX)));
    let (reply, answer) = Reply::channel();
    let batch = Batch::new(vec![Box::new(rig.job(1, 7, reply))], depth.enter());
    let waker = Waker::from(Arc::clone(&seen));
    let mut context = std::task::Context::from_waker(&waker);
    let mut answer = pin!(answer);
    assert!(answer.as_mut().poll(&mut context).is_pending());
    batch.fail(&Error::Lost);
    assert_eq!(seen.1.load(Ordering::Relaxed), 0);
    assert!(matches!(wait(answer).unwrap(), Err(Error::Lost)));
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
fn what_was_queued_for_too_long_is_answered_without_a_pass() {
    let rig = rig(stage_times(0, 0, 0), &Scheduling::Each, 3, Mode::Stages);
    let (reply, answer) = Reply::channel();
    let mut job = rig.job(1, 7, reply);
    job.queue_until = Some(Instant::now());
    let pending = rig.scheduler.submit(job, answer).unwrap();
    assert!(matches!(wait(pending), Err(Error::QueueTimeout)));
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
