//! Faults that are planted between the executor and its device, one at a time, as a pipeline with a
//! mistake in it would make them. The simulated device must report each, and name both sides.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use super::rig::*;
use crate::{
    device::{self, Device, Location, Outage, Simulated, Work},
    executor::{MicroBatches, Mode},
    memory::Pool,
    repository::Scheduling,
    scheduler::Pending,
    tensor::HostTensor,
};

/// The mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    Nothing,
    ComputeForgetsTheUpload,
    D2hForgetsThePass,
    HostForgetsToSynchronize,
    FreesWhatIsStillWritten,
    RecordsTooEarly,
    WaitsOnAnotherStream,
}

type Event = <Simulated as Device>::Event;

/// A simulated device in the hands of a pipeline with a mistake.
#[derive(Debug)]
struct Planted {
    device: Simulated,
    plant: Plant,
    /// The event that was recorded too early.
    early: Mutex<Option<Event>>,
    /// The stream that has nothing to wait for.
    elsewhere: Mutex<<Simulated as Device>::Stream>,
    /// The answer that is given up once an operation is enqueued, and which.
    victim: Option<(Moment, Mutex<mpsc::Receiver<Pending>>)>,
    downloads: AtomicUsize,
}

/// When an answer is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Upload,
    Launch,
}

#[derive(Debug)]
struct Named(<Simulated as Device>::Stream, String);

impl Planted {
    fn new(device: &Simulated, plant: Plant) -> Self {
        Self {
            device: device.clone(),
            plant,
            early: Mutex::default(),
            elsewhere: Mutex::new(device.open_stream("elsewhere").unwrap()),
            victim: None,
            downloads: AtomicUsize::new(0),
        }
    }

    fn give_up(&self, now: Moment) {
        if let Some((moment, victim)) = &self.victim
            && *moment == now
        {
            drop(victim.lock().unwrap().recv());
        }
    }
}

impl Device for Planted {
    type Stream = Named;
    type Event = Event;
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
        if self.plant == Plant::RecordsTooEarly {
            *self.early.lock().unwrap() = Some(self.device.record(&stream.0)?);
        }
        let buffer = self.device.upload(&stream.0, tensors, on_host)?;
        self.give_up(Moment::Upload);
        Ok(buffer)
    }
    fn launch(
        &self,
        stream: &Named,
        inputs: Self::Buffer,
        work: Work,
    ) -> Result<Self::Buffer, device::Error> {
        let outputs = self.device.launch(&stream.0, inputs, work)?;
        self.give_up(Moment::Launch);
        Ok(outputs)
    }
    fn download(
        &self,
        stream: &Named,
        outputs: Self::Buffer,
    ) -> Result<Self::Buffer, device::Error> {
        self.downloads.fetch_add(1, Ordering::Relaxed);
        self.device.download(&stream.0, outputs)
    }
    fn record(&self, stream: &Named) -> Result<Event, device::Error> {
        match self.early.lock().unwrap().take() {
            Some(early) => Ok(early),
            None => self.device.record(&stream.0),
        }
    }
    fn wait(&self, stream: &Named, event: &Event) -> Result<(), device::Error> {
        match self.plant {
            Plant::ComputeForgetsTheUpload if stream.1.starts_with("compute") => Ok(()),
            Plant::D2hForgetsThePass if stream.1.starts_with("d2h") => Ok(()),
            Plant::WaitsOnAnotherStream if stream.1.starts_with("compute") => {
                self.device.wait(&self.elsewhere.lock().unwrap(), event)
            }
            _ => self.device.wait(&stream.0, event),
        }
    }
    fn synchronize(&self, event: &Event) -> Result<(), device::Error> {
        match self.plant {
            Plant::HostForgetsToSynchronize | Plant::FreesWhatIsStillWritten => Ok(()),
            _ => self.device.synchronize(event),
        }
    }
    fn finish(&self, downloaded: Self::Buffer) -> Result<Vec<HostTensor>, device::Error> {
        self.device.finish(downloaded)
    }
    fn elapsed(&self, from: &Event, to: &Event) -> Duration {
        self.device.elapsed(from, to)
    }
    fn reclaim(&self) {
        self.device.reclaim();
    }
    fn outage(&self) -> &Outage {
        self.device.outage()
    }
}

/// Runs a request on a pipeline with the mistake, in each mode, and checks that its answer and the
/// device's report name `user` and `writer`.
fn is_found_out(plant: Plant, user: &str, writer: &str) {
    for mode in [Mode::Stages, Mode::Inline] {
        let simulated = (*stage_times(1, 1, 1)).clone();
        let device = Arc::new(Planted::new(&simulated, plant));
        let rig = rig(device, &Scheduling::Each, 3, mode);
        let error = wait(rig.submit(1, 7)).unwrap_err().to_string();
        let report = simulated.hazards()[0].to_string();
        for text in [error, report] {
            assert!(
                text.contains(user) && text.contains(writer),
                "{mode:?}: {text}"
            );
        }
        rig.finish();
    }
}

/// Runs a request that is given up at `moment`, and returns the reports and how often outputs were copied.
fn given_up(moment: Moment, plant: Plant, mode: Mode) -> (Vec<String>, usize) {
    let simulated = (*stage_times(1, 1, 1)).clone();
    let (give_up, victim) = mpsc::sync_channel(1);
    let mut device = Planted::new(&simulated, plant);
    device.victim = Some((moment, Mutex::new(victim)));
    let device = Arc::new(device);
    let rig = rig(Arc::clone(&device), &Scheduling::Each, 3, mode);
    give_up.send(rig.submit(1, 7)).unwrap();
    rig.finish();
    let hazards = simulated.hazards();
    let reports = hazards.iter().map(ToString::to_string).collect();
    (reports, device.downloads.load(Ordering::Relaxed))
}

#[test]
fn a_pass_that_does_not_wait_for_its_inputs_is_found_out() {
    is_found_out(
        Plant::ComputeForgetsTheUpload,
        "a forward pass on 'compute-0'",
        "upload 1 on 'h2d-0'",
    );
}

#[test]
fn a_download_that_does_not_wait_for_the_pass_is_found_out() {
    is_found_out(
        Plant::D2hForgetsThePass,
        "a download on 'd2h-0'",
        "forward pass 1 on 'compute-0'",
    );
}

#[test]
fn a_host_that_reads_before_it_synchronizes_is_found_out() {
    is_found_out(
        Plant::HostForgetsToSynchronize,
        "a read by the host on 'host'",
        "download 1 on 'd2h-0'",
    );
}

#[test]
fn memory_that_is_freed_while_it_is_written_is_found_out() {
    for mode in [Mode::Stages, Mode::Inline] {
        let (reports, _) = given_up(Moment::Upload, Plant::FreesWhatIsStillWritten, mode);
        assert!(
            reports[0].contains("a free by the host") && reports[0].contains("upload 1 on 'h2d-0'"),
            "{reports:?}"
        );
    }
}

#[test]
fn an_event_that_is_recorded_too_early_is_found_out() {
    is_found_out(
        Plant::RecordsTooEarly,
        "a forward pass on 'compute-0'",
        "upload 1 on 'h2d-0'",
    );
}

#[test]
fn an_event_that_another_stream_waits_for_is_found_out() {
    is_found_out(
        Plant::WaitsOnAnotherStream,
        "a forward pass on 'compute-0'",
        "upload 1 on 'h2d-0'",
    );
}

#[test]
fn without_a_mistake_nothing_is_reported() {
    for mode in [Mode::Stages, Mode::Inline] {
        let simulated = (*stage_times(1, 1, 1)).clone();
        let device = Arc::new(Planted::new(&simulated, Plant::Nothing));
        let rig = rig(device, &Scheduling::Each, 3, mode);
        wait(rig.submit(1, 7)).unwrap();
        rig.finish();
        assert_clean(&simulated);
    }
}

#[test]
fn a_request_that_is_given_up_costs_no_further_stage() {
    for mode in [Mode::Stages, Mode::Inline] {
        for moment in [Moment::Upload, Moment::Launch] {
            let (reports, downloads) = given_up(moment, Plant::Nothing, mode);
            assert_eq!(reports, Vec::<String>::new());
            assert_eq!(downloads, 0, "{mode:?}, after the {moment:?}");
        }
    }
}

#[test]
fn a_cut_batch_that_nobody_wants_any_more_stops() {
    let simulated = (*stage_times(1, 1, 1)).clone();
    let (give_up, victim) = mpsc::sync_channel(1);
    let mut device = Planted::new(&simulated, Plant::Nothing);
    device.victim = Some((Moment::Upload, Mutex::new(victim)));
    let wiring = Wiring {
        scheduling: batching(),
        depth: 3,
        mode: Mode::Stages,
        instances: 1,
        micro_batches: MicroBatches::Pieces(NonZeroUsize::new(4).unwrap()),
    };
    let passes = Arc::default();
    let rig = rig_of(&Arc::new(device), &wiring, || echo(&passes));
    give_up.send(rig.submit(8, 7)).unwrap();
    drop(give_up);
    rig.finish();
    assert_eq!(passes.load(Ordering::Relaxed), 1);
    assert_clean(&simulated);
}
