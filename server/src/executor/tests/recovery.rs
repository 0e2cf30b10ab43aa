//! A device that is out of memory: batches are tried again in parts, and what does not fit fails on
//! its own.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use forebay_proto::{SequenceControl, SequenceId};
use tonic::Code;

use super::rig::*;
use crate::{
    device::{
        Cpu,
        simulated::{FaultKind, Faults},
    },
    error::Error,
    executor::{MicroBatches, Mode},
    grpc,
    memory::Pool,
    model::{self, Instance},
    repository::{Scheduling, SequenceBatching},
    request::Reply,
    scheduler::Pending,
    tensor::Placed,
};

/// A batch waits for this long to be full: for ever, as far as these tests are concerned.
const UNTIL_FULL: Duration = Duration::from_secs(60);

fn memory(bytes: usize) -> Faults {
    Faults {
        memory_bytes: Some(bytes),
        ..Faults::default()
    }
}

#[test]
fn a_batch_too_large_for_the_device_runs_in_parts() {
    // 32 bytes in and 32 out for all 8 rows. The limit lets in: nothing of the batch of 8, the
    // inputs but not the outputs of 4, and both of 2.
    for (mode, depth) in [(Mode::Inline, 1), (Mode::Stages, 1), (Mode::Stages, 3)] {
        let device = faulty(memory(20));
        let wiring = Wiring {
            depth,
            mode,
            ..wiring(batching_for(UNTIL_FULL))
        };
        let passes = Arc::<AtomicUsize>::default();
        let rig = rig_of(&device, &wiring, || echo(&passes));
        let pending: Vec<_> = (10..18).map(|byte| rig.submit(1, byte)).collect();
        for (answer, byte) in pending.into_iter().zip(10..18) {
            assert_eq!(wait(answer).unwrap().outputs[0].data()[..], [byte; 4]);
        }
        // The outputs of the first 4 fail in the pass; after them, the caches leave no room for the
        // inputs of the second 4.
        assert_eq!(passes.load(Ordering::Relaxed), 1 + 4);
        let report = rig.statistics.report("echo", 1);
        assert_eq!((report.inference_count, report.execution_count), (8, 4));
        assert!(rig.finish() <= depth);
        assert_clean(&device);
    }
}

#[test]
fn wherever_the_error_shows_the_batch_is_tried_again() {
    for mode in [Mode::Inline, Mode::Stages] {
        for operation in 0..3 {
            for at_once in [true, false] {
                let faults = fault(operation, FaultKind::OutOfMemory, at_once);
                let device = faulty(faults);
                let rig = rig(Arc::clone(&device), &batching_for(UNTIL_FULL), 2, mode);
                let pending = [rig.submit(4, 7), rig.submit(4, 8)];
                for (answer, byte) in pending.into_iter().zip([7, 8]) {
                    let answer = wait(answer);
                    let answer = answer.unwrap_or_else(|error| {
                        panic!("{mode:?}, operation {operation}, at once {at_once}: {error}")
                    });
                    assert_eq!(answer.outputs[0].data()[..], [byte; 16]);
                }
                rig.finish();
                assert_clean(&device);
            }
        }
    }
}

#[test]
fn what_does_not_fit_on_its_own_fails_alone_and_names_the_mend() {
    let device = faulty(memory(40));
    let rig = rig(Arc::clone(&device), &batching(), 3, Mode::Stages);
    let large = wait(rig.submit(6, 7)).unwrap_err();
    assert_eq!(grpc::status::code(&large), Code::ResourceExhausted);
    let text = large.to_string();
    for part in [
        "'echo'",
        "6 rows",
        "max_batch_size",
        "fewer instances",
        "24",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    wait(rig.submit(5, 7)).unwrap();
    rig.finish();
    assert_clean(&device);
}

#[test]
fn what_fits_on_its_own_does_not_fail_for_others_in_flight() {
    // Each takes 16 bytes in and 16 out.
    for mode in [Mode::Inline, Mode::Stages, Mode::Auto] {
        let device = faulty(memory(40));
        let rig = rig(Arc::clone(&device), &Scheduling::Each, 3, mode);
        let pending: Vec<_> = (3..203).map(|byte| (byte, rig.submit(4, byte))).collect();
        for (byte, answer) in pending {
            let answer = wait(answer).unwrap_or_else(|error| panic!("{mode:?}, {byte}: {error}"));
            assert_eq!(answer.outputs[0].data()[..], [byte; 16]);
        }
        let report = rig.statistics.report("echo", 1);
        let ways = &report.batch_stats[0];
        match mode {
            Mode::Inline => assert_eq!(ways.forebay_inline_count, 200),
            // Also those that were tried again, which is not a choice.
            Mode::Stages => assert_eq!(ways.forebay_staged_count, 200),
            Mode::Auto => {}
        }
        rig.finish();
        assert_clean(&device);
    }
}

#[test]
fn of_a_batch_only_the_job_that_does_not_fit_fails() {
    let device = faulty(memory(40));
    let rig = rig(
        Arc::clone(&device),
        &batching_for(UNTIL_FULL),
        3,
        Mode::Stages,
    );
    let (fits, does_not) = (rig.submit(2, 7), rig.submit(6, 8));
    assert_eq!(wait(fits).unwrap().outputs[0].data()[..], [7; 8]);
    assert!(matches!(
        wait(does_not),
        Err(Error::DeviceMemory { rows: 6, .. })
    ));
    rig.finish();
    assert_clean(&device);
}

#[test]
fn caches_are_freed_before_a_batch_is_tried_again() {
    let device = faulty(memory(40));
    let rig = rig(Arc::clone(&device), &Scheduling::Each, 1, Mode::Stages);
    // Leaves 16 bytes in pieces that the next request cannot use.
    wait(rig.submit(2, 7)).unwrap();
    wait(rig.submit(4, 8)).unwrap();
    assert_eq!(rig.passes.load(Ordering::Relaxed), 3);
    rig.finish();
    assert_clean(&device);
}

/// Finds no memory at its first pass, during which `during` is called; echoes from then on.
#[derive(Debug)]
struct Starved {
    during: Option<During>,
    passes: Passes,
}

struct During(Box<dyn Fn() + Send>);

impl std::fmt::Debug for During {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("During")
    }
}

/// The bytes of the inputs of each pass.
type Passes = Arc<Mutex<Vec<usize>>>;

impl Instance for Starved {
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, model::Error> {
        let tensors: Vec<Placed> = inputs.into_iter().flatten().collect();
        let bytes = |placed: &Placed| match placed {
            Placed::Host(tensor) => tensor.data.as_ref().len(),
            Placed::Device(_) => 0,
        };
        self.passes
            .lock()
            .unwrap()
            .push(tensors.iter().map(bytes).sum());
        match self.during.take() {
            Some(During(during)) => {
                during();
                Err(model::Error::OutOfMemory("planted".to_owned()))
            }
            None => Ok(tensors),
        }
    }

    fn reset(&mut self) -> Result<(), model::Error> {
        Ok(())
    }
}

fn starved(passes: &Passes, during: impl Fn() + Send + 'static) -> Box<dyn Instance> {
    Box::new(Starved {
        during: Some(During(Box::new(during))),
        passes: Arc::clone(passes),
    })
}

fn wiring(scheduling: Scheduling) -> Wiring {
    Wiring {
        scheduling,
        depth: 1,
        mode: Mode::Stages,
        instances: 1,
        micro_batches: MicroBatches::Off,
    }
}

#[test]
fn a_job_given_up_meanwhile_is_not_tried_again() {
    let device = faulty(Faults::default());
    let passes = Passes::default();
    let (victims, victim) = mpsc::sync_channel::<Pending>(1);
    let victim = Arc::new(Mutex::new(victim));
    let rig = rig_of(&device, &wiring(batching_for(UNTIL_FULL)), || {
        let victim = Arc::clone(&victim);
        starved(&passes, move || drop(victim.lock().unwrap().recv()))
    });
    let (stays, goes) = (rig.submit(3, 7), rig.submit(5, 8));
    victims.send(goes).unwrap();
    assert_eq!(wait(stays).unwrap().outputs[0].data()[..], [7; 12]);
    assert_eq!(*passes.lock().unwrap(), [32, 12]);
    rig.finish();
    assert_clean(&device);
}

#[test]
fn requests_of_sequences_are_not_tried_again() {
    let device = faulty(Faults::default());
    let passes = Passes::default();
    let sequences = Scheduling::Sequence(SequenceBatching {
        max_idle: UNTIL_FULL,
    });
    let rig = rig_of(&device, &wiring(sequences), || starved(&passes, || {}));
    let ask = |start| {
        let (reply, answer) = Reply::channel();
        let mut job = rig.job(1, 7, reply);
        job.sequence = Some(SequenceControl {
            id: SequenceId::Number(1),
            start,
            end: !start,
        });
        wait(rig.scheduler.submit(job, answer).unwrap())
    };
    let error = ask(true).unwrap_err();
    assert!(matches!(error, Error::SequenceMemory { .. }), "{error}");
    // Of the codes that may be tried again, one that does not say that nothing was executed.
    assert_eq!(grpc::status::code(&error), Code::Aborted);
    ask(false).unwrap();
    assert_eq!(*passes.lock().unwrap(), [4, 4]);
    rig.finish();
    assert_clean(&device);
}

#[test]
fn where_inputs_are_lent_to_the_pass_there_is_no_second_one() {
    let device = Arc::new(Cpu::new(Pool::new(1 << 20)));
    let passes = Passes::default();
    let rig = rig_of(&device, &wiring(Scheduling::Each), || {
        starved(&passes, || {})
    });
    assert!(matches!(
        wait(rig.submit(1, 7)),
        Err(Error::DeviceMemory { .. })
    ));
    wait(rig.submit(1, 7)).unwrap();
    assert_eq!(passes.lock().unwrap().len(), 2);
    rig.finish();
}
