//! The CPU as a device: operations run at once on the calling thread, and nothing is copied.

use std::time::{Duration, Instant};

use super::{Device, Error, Work};
use crate::tensor::HostTensor;

/// The CPU. Its streams are trivial, its events are points in time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

impl Device for Cpu {
    type Stream = ();
    type Event = Instant;
    type Buffer = Vec<Option<HostTensor>>;

    fn overlaps(&self) -> bool {
        false
    }

    fn open_stream(&self, _name: &str) -> Result<(), Error> {
        Ok(())
    }

    fn upload(
        &self,
        (): &(),
        tensors: Vec<Option<HostTensor>>,
    ) -> Result<Vec<Option<HostTensor>>, Error> {
        Ok(tensors)
    }

    fn launch(
        &self,
        (): &(),
        inputs: Vec<Option<HostTensor>>,
        work: Work,
    ) -> Result<Vec<Option<HostTensor>>, Error> {
        Ok(work(inputs)?.into_iter().map(Some).collect())
    }

    fn download(
        &self,
        (): &(),
        outputs: Vec<Option<HostTensor>>,
    ) -> Result<Vec<Option<HostTensor>>, Error> {
        Ok(outputs)
    }

    fn record(&self, (): &()) -> Result<Instant, Error> {
        Ok(Instant::now())
    }

    fn wait(&self, (): &(), _event: &Instant) -> Result<(), Error> {
        Ok(())
    }

    fn synchronize(&self, _event: &Instant) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&self, downloaded: Vec<Option<HostTensor>>) -> Result<Vec<HostTensor>, Error> {
        Ok(downloaded.into_iter().flatten().collect())
    }

    fn elapsed(&self, from: &Instant, to: &Instant) -> Duration {
        to.saturating_duration_since(*from)
    }
}
