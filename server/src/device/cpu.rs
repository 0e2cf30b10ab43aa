//! The CPU as a device: operations run at once on the calling thread, and nothing is copied.

use std::time::{Duration, Instant};

use super::{Device, Error, Location, Outage, Work};
use crate::{
    memory::Pool,
    tensor::{HostTensor, Placed},
};

/// The CPU. Its streams are trivial, its events are points in time.
#[derive(Debug, Clone)]
pub struct Cpu {
    pool: Pool,
    outage: Outage,
}

impl Cpu {
    /// Makes the device; batches are gathered in slabs of `pool`.
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            outage: Outage::default(),
        }
    }
}

impl Device for Cpu {
    type Stream = ();
    type Event = Instant;
    type Buffer = Vec<Option<Placed>>;

    fn location(&self) -> Location {
        Location::Host
    }

    fn has_own_memory(&self) -> bool {
        false
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn open_stream(&self, _name: &str) -> Result<(), Error> {
        Ok(())
    }

    fn upload(
        &self,
        (): &(),
        tensors: Vec<Option<HostTensor>>,
        _on_host: &[bool],
    ) -> Result<Self::Buffer, Error> {
        Ok(tensors
            .into_iter()
            .map(|tensor| tensor.map(Placed::Host))
            .collect())
    }

    fn launch(&self, (): &(), inputs: Self::Buffer, work: Work) -> Result<Self::Buffer, Error> {
        Ok(work(inputs)?.into_iter().map(Some).collect())
    }

    fn download(&self, (): &(), outputs: Self::Buffer) -> Result<Self::Buffer, Error> {
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

    fn finish(&self, downloaded: Self::Buffer) -> Result<Vec<HostTensor>, Error> {
        Ok(downloaded
            .into_iter()
            .flatten()
            .filter_map(Placed::into_host)
            .collect())
    }

    fn elapsed(&self, from: &Instant, to: &Instant) -> Duration {
        to.saturating_duration_since(*from)
    }

    fn outage(&self) -> &Outage {
        &self.outage
    }
}
