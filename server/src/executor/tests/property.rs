//! Whatever happens on the way, each job is answered once, with its own bytes or an error that fits,
//! and nothing is held in the end.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::{collection, option, prelude::*};

use super::rig::*;
use crate::{
    device::{
        self, Simulated,
        simulated::{Costs, Fault, FaultKind, Faults, Link},
    },
    error::Error,
    executor::{MicroBatches, Mode},
    memory::Pool,
    model::{self, Instance},
    repository::Scheduling,
    request::{Answer, Reply},
    scheduler::Pending,
    tensor::Placed,
};

/// What the pass does with a job's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Runs = 0,
    Fails = 1,
    Panics = 2,
}

#[derive(Debug, Clone)]
struct Planned {
    rows: u8,
    fate: Fate,
    /// In microseconds from its submission.
    deadline: Option<u64>,
    /// Given up once so many more jobs are submitted.
    given_up_after: Option<usize>,
}

#[derive(Debug, Clone)]
struct Case {
    jobs: Vec<Planned>,
    wiring: Wiring,
    /// Microseconds of each stage.
    costs: [u64; 3],
    faults: Faults,
}

/// Echoes, and does with each row what its first byte says.
#[derive(Debug)]
struct Obeys;

impl Instance for Obeys {
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, model::Error> {
        let outputs: Vec<Placed> = inputs.into_iter().flatten().collect();
        let Placed::Host(first) = &outputs[0] else {
            unreachable!("this device is on the host")
        };
        for row in first.data.as_ref().chunks(4) {
            match row[0] {
                1 => return Err(model::Error::Forward("planted".to_owned())),
                2 => panic!("planted"),
                _ => {}
            }
        }
        Ok(outputs)
    }

    fn reset(&mut self) -> Result<(), model::Error> {
        Ok(())
    }
}

fn planned() -> impl Strategy<Value = Planned> {
    let fate = prop_oneof![
        20 => Just(Fate::Runs),
        1 => Just(Fate::Fails),
        1 => Just(Fate::Panics)
    ];
    let deadline = prop_oneof![5 => Just(None), 1 => (0..1500u64).prop_map(Some)];
    let given_up = prop_oneof![5 => Just(None), 1 => (0..6usize).prop_map(Some)];
    (1..=4u8, fate, deadline, given_up).prop_map(|(rows, fate, deadline, given_up_after)| Planned {
        rows,
        fate,
        deadline,
        given_up_after,
    })
}

fn faults() -> impl Strategy<Value = Faults> {
    let kind = prop_oneof![
        3 => Just(FaultKind::OutOfMemory),
        1 => Just(FaultKind::Once)
    ];
    let fault = |kind| (kind, any::<bool>()).prop_map(|(kind, at_once)| Fault { kind, at_once });
    let passing = collection::btree_map(0..60u64, fault(kind.boxed()), 0..4);
    let last = (0..90u64, fault(Just(FaultKind::ForGood).boxed()));
    let memory = prop_oneof![2 => Just(None), 1 => (24..200usize).prop_map(Some)];
    let rest = (memory, 0..150u64, any::<u64>());
    (passing, option::weighted(0.25, last), rest).prop_map(
        |(passing, last, (memory_bytes, jitter, seed))| Faults {
            memory_bytes,
            operations: passing.into_iter().chain(last).collect::<BTreeMap<_, _>>(),
            jitter: Duration::from_micros(jitter),
            seed,
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let scheduling = prop_oneof![
        Just(Scheduling::Each),
        (0..300u64).prop_map(|delay| batching_for(Duration::from_micros(delay)))
    ];
    let mode = prop_oneof![Just(Mode::Inline), Just(Mode::Stages), Just(Mode::Auto)];
    let micro_batches = prop_oneof![
        Just(MicroBatches::Off),
        Just(MicroBatches::Auto),
        (2..=4usize).prop_map(|pieces| MicroBatches::Pieces(NonZeroUsize::new(pieces).unwrap()))
    ];
    let wiring = (scheduling, 1..=4usize, mode, 1..=3usize, micro_batches).prop_map(
        |(scheduling, depth, mode, instances, micro_batches)| Wiring {
            scheduling,
            depth,
            mode,
            instances,
            micro_batches,
        },
    );
    let costs = [0..200u64, 0..200, 0..200];
    (collection::vec(planned(), 1..40), wiring, costs, faults()).prop_map(
        |(jobs, wiring, costs, faults)| Case {
            jobs,
            wiring,
            costs,
            faults,
        },
    )
}

impl Case {
    fn device(&self) -> Arc<Simulated> {
        let [h2d, compute, d2h] = self.costs.map(Duration::from_micros);
        let link = |latency| Link {
            latency,
            bytes_per_second: None,
        };
        let costs = Costs {
            h2d: link(h2d),
            compute,
            d2h: link(d2h),
            ..Costs::default()
        };
        let (pool, faults) = (Pool::new(1 << 20), self.faults.clone());
        Arc::new(Simulated::with_faults(costs, pool, faults))
    }

    /// Returns the bytes of a job: each row says what to do with it, and whose it is.
    fn bytes(&self, index: usize) -> Vec<u8> {
        let Planned { rows, fate, .. } = self.jobs[index];
        let index = u8::try_from(index).unwrap();
        (0..rows)
            .flat_map(|row| [fate as u8, index, row, 7])
            .collect()
    }

    /// Counts the planned faults of a kind.
    fn planned(&self, kind: FaultKind) -> usize {
        let faults = self.faults.operations.values();
        faults.filter(|fault| fault.kind == kind).count()
    }

    /// Returns whether a job may share its pass with one of that fate.
    fn meets(&self, index: usize, fate: Fate) -> bool {
        let joins = self.wiring.scheduling != Scheduling::Each;
        self.jobs[index].fate == fate || joins && self.jobs.iter().any(|job| job.fate == fate)
    }

    /// Returns whether an answer is one that the job may have.
    fn fits(&self, index: usize, answer: &Result<Answer, Error>) -> bool {
        let broken = self.planned(FaultKind::ForGood) > 0;
        match answer {
            Ok(answer) => {
                let [output] = &answer.outputs[..] else {
                    return false;
                };
                self.jobs[index].fate == Fate::Runs && output.data()[..] == self.bytes(index)
            }
            Err(Error::DeadlineExceeded) => self.jobs[index].deadline.is_some(),
            Err(Error::Device(device::Error::Model(model::Error::Forward(text)))) => {
                (text == "planted" && self.meets(index, Fate::Fails))
                    || (text.contains("panicked") && self.meets(index, Fate::Panics))
                    || (text.starts_with("planned for operation")
                        && self.planned(FaultKind::Once) > 0)
            }
            // One such fault is mended by another try.
            Err(Error::DeviceMemory { .. }) if self.planned(FaultKind::OutOfMemory) > 1 => true,
            Err(Error::DeviceMemory { .. }) => !self.fits_alone(index),
            Err(Error::Device(device::Error::Failed { .. }) | Error::DeviceLost { .. }) => broken,
            Err(_) => false,
        }
    }

    /// Returns whether the device has memory for a job, in and out, when its instance runs no other.
    /// Other instances may hold some, and so may an upload whose pass was refused at once, for a
    /// moment after its batch was answered.
    fn fits_alone(&self, index: usize) -> bool {
        let refused = |fault: &Fault| fault.at_once || fault.kind == FaultKind::OutOfMemory;
        let planned = self.faults.operations.values().any(refused);
        let memory = self.faults.memory_bytes.unwrap_or(usize::MAX);
        let undisturbed = self.wiring.instances == 1 && !planned;
        (undisturbed || self.faults.memory_bytes.is_none())
            && 8 * usize::from(self.jobs[index].rows) <= memory
    }

    fn submit(&self, rig: &Rig, index: usize) -> Result<Pending, Error> {
        let (reply, answer) = Reply::channel();
        let mut job = rig.job_of(self.bytes(index), reply);
        let deadline = self.jobs[index].deadline;
        job.deadline = deadline.map(|us| Instant::now() + Duration::from_micros(us));
        rig.scheduler.submit(job, answer)
    }

    /// Submits all jobs, giving some up on the way. Returns what is to be waited for.
    fn submit_all(&self, rig: &Rig) -> Vec<Option<Result<Pending, Error>>> {
        let mut pending = Vec::with_capacity(self.jobs.len());
        for index in 0..self.jobs.len() {
            pending.push(Some(self.submit(rig, index)));
            for (earlier, job) in self.jobs[..=index].iter().enumerate() {
                if job.given_up_after == Some(index - earlier) {
                    pending[earlier] = None;
                }
            }
        }
        pending
    }
}

/// Waits for an answer, but not for ever.
async fn answer(pending: Result<Pending, Error>) -> Result<Answer, Error> {
    const LONG: Duration = Duration::from_secs(20);
    tokio::time::timeout(LONG, pending?)
        .await
        .expect("each job is answered")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        max_shrink_time: 30_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_job_is_answered_once_and_nothing_is_held_in_the_end(case in case()) {
        let device = case.device();
        let rig = rig_of(&device, &case.wiring, || Box::new(Obeys));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for (index, pending) in case.submit_all(&rig).into_iter().enumerate() {
            if let Some(pending) = pending {
                let answer = runtime.block_on(answer(pending));
                prop_assert!(case.fits(index, &answer), "job {}: {:?}", index, answer);
            }
        }
        let peak = rig.finish();
        prop_assert!(peak <= case.wiring.depth);
        assert_clean(&device);
    }
}
