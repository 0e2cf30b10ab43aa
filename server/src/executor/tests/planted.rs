//! Faults that are planted in the pipeline, and the reports of the simulated device that name them.

use std::{sync::Arc, time::Duration};

use super::rig::*;
use crate::{
    device::{self, Device, Location, Simulated, Work},
    executor::Mode,
    memory::Pool,
    repository::Scheduling,
    tensor::HostTensor,
};

/// A device on which one stage forgets to wait for the one before it.
#[derive(Debug)]
struct ForgetsToWait {
    device: Simulated,
    forgets: &'static str,
}

#[derive(Debug)]
struct Named(<Simulated as Device>::Stream, String);

impl Device for ForgetsToWait {
    type Stream = Named;
    type Event = <Simulated as Device>::Event;
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
        self.device.upload(&stream.0, tensors, on_host)
    }
    fn launch(
        &self,
        stream: &Named,
        inputs: Self::Buffer,
        work: Work,
    ) -> Result<Self::Buffer, device::Error> {
        self.device.launch(&stream.0, inputs, work)
    }
    fn download(
        &self,
        stream: &Named,
        outputs: Self::Buffer,
    ) -> Result<Self::Buffer, device::Error> {
        self.device.download(&stream.0, outputs)
    }
    fn record(&self, stream: &Named) -> Result<Self::Event, device::Error> {
        self.device.record(&stream.0)
    }
    fn wait(&self, stream: &Named, event: &Self::Event) -> Result<(), device::Error> {
        if stream.1.starts_with(self.forgets) {
            return Ok(());
        }
        self.device.wait(&stream.0, event)
    }
    fn synchronize(&self, event: &Self::Event) -> Result<(), device::Error> {
        self.device.synchronize(event)
    }
    fn finish(&self, downloaded: Self::Buffer) -> Result<Vec<HostTensor>, device::Error> {
        self.device.finish(downloaded)
    }
    fn elapsed(&self, from: &Self::Event, to: &Self::Event) -> Duration {
        self.device.elapsed(from, to)
    }
}

#[test]
fn a_pipeline_that_forgets_an_event_is_found_out() {
    for (forgets, user, writer) in [
        ("compute", "a forward pass on 'compute-0'", "on 'h2d-0'"),
        ("d2h", "a download on 'd2h-0'", "on 'compute-0'"),
    ] {
        let simulated = (*stage_times(1, 1, 1)).clone();
        let device = Arc::new(ForgetsToWait {
            device: simulated.clone(),
            forgets,
        });
        let rig = rig(Arc::clone(&device), &Scheduling::Each, 3, Mode::Stages);
        let error = wait(rig.submit(1, 7)).unwrap_err().to_string();
        assert!(error.contains(user) && error.contains(writer), "{error}");
        assert!(simulated.hazards()[0].to_string().contains(user));
        rig.finish();
    }
}
