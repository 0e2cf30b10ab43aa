//! A device that fails for good: what runs, waits or comes is told so, and the threads end.

use std::{sync::Arc, time::Duration};

use tonic::Code;

use super::rig::*;
use crate::{
    device::{
        self, Device as _,
        simulated::{Costs, FaultKind, Faults},
    },
    error::Error,
    executor::{Mode, Pipeline},
    grpc,
    memory::Pool,
    repository::Scheduling,
    request::Reply,
};

/// A device that takes its time, so that requests are queued when it fails.
fn slow(faults: Faults) -> Arc<device::Simulated> {
    let compute = Duration::from_millis(2);
    let costs = Costs {
        compute,
        ..Costs::default()
    };
    let pool = Pool::new(1 << 20);
    Arc::new(device::Simulated::with_faults(costs, pool, faults))
}

#[test]
fn each_request_is_told_once_and_the_threads_end() {
    for (mode, at_once) in [
        (Mode::Stages, true),
        (Mode::Stages, false),
        (Mode::Inline, true),
        (Mode::Inline, false),
    ] {
        let device = slow(fault(7, FaultKind::ForGood, at_once));
        let rig = rig(Arc::clone(&device), &Scheduling::Each, 2, mode);
        let pending: Vec<_> = (0..20).map(|_| rig.submit(1, 7)).collect();
        let answers: Vec<_> = pending.into_iter().map(wait).collect();
        // Three operations for each request, and nothing else fails.
        assert!(answers[0].is_ok(), "{:?}", answers[0]);
        let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert!(failed.len() >= 17, "{} of 20", failed.len());
        let (running, queued): (Vec<_>, Vec<_>) = failed
            .iter()
            .partition(|error| matches!(error, Error::Device(device::Error::Failed { .. })));
        assert!(!running.is_empty());
        assert!(
            queued
                .iter()
                .all(|error| matches!(error, Error::DeviceLost { .. })),
            "{queued:?}"
        );
        for error in &failed {
            assert_eq!(grpc::status::code(error), Code::Unavailable);
            assert!(
                error.to_string().contains("planned for operation 7"),
                "{error}"
            );
        }
        let (reply, answer) = Reply::channel();
        let refused = rig.scheduler.submit(rig.job(1, 7, reply), answer);
        assert!(
            matches!(refused, Err(Error::DeviceLost { .. })),
            "{refused:?}"
        );
        // No close: the failure is what ends the threads.
        rig.pipelines.into_iter().for_each(Pipeline::join);
        assert_eq!(rig.budget.used(), 0);
        assert_clean(&device);
    }
}

#[test]
fn models_of_the_same_device_go_with_it_and_others_stay() {
    let device = faulty(fault(0, FaultKind::ForGood, false));
    let [fails, idle] = [0, 1].map(|_| rig(Arc::clone(&device), &batching(), 3, Mode::Stages));
    let elsewhere = rig(stage_times(0, 0, 0), &batching(), 3, Mode::Stages);
    assert_eq!(idle.scheduler.failure(), None);
    wait(fails.submit(1, 7)).unwrap_err();
    assert!(device.outage().reason().is_some());
    for rig in [fails, idle] {
        let reason = rig.scheduler.failure().unwrap_or_default();
        assert!(reason.contains("'simulated' has failed"), "{reason}");
        rig.pipelines.into_iter().for_each(Pipeline::join);
    }
    wait(elsewhere.submit(1, 7)).unwrap();
    elsewhere.finish();
    let late = Arc::new(crate::scheduler::Scheduler::new(&batching(), 8, 1, 10));
    let told = Arc::clone(&late);
    device.outage().listen(move |reason| told.fail(reason));
    assert!(late.failure().is_some());
}
