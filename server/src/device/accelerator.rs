//! libtorch's accelerators: CUDA's GPUs, and whatever else brings streams, events and page-locked
//! memory of its own.
//!
//! Passes run on the calling thread with the stream as its current one, so that libtorch enqueues
//! their work there and returns. Invariants: host memory that a copy touches is in flight until an
//! event behind the copy has happened, also where a buffer is dropped early; memory of the device goes
//! back to the stream that it came from no sooner than every stream it was used on has come there;
//! once the device is known to be broken no tensor of a batch is freed.

use std::{sync::Arc, time::Duration};

use super::{Device, Error, Location, Outage, Report, Work};
use crate::{
    memory::{HostBuf, Pool},
    tensor::{HostData, HostTensor, Placed},
    torch::{self, DeviceTensor},
};

mod ffi;
mod library;
mod nvml;
mod spared;

pub use ffi::Memory;
use ffi::{Failure, InFlight};
pub use library::Missing;
use nvml::Management;
use spared::{Broken, Spared};

/// One of libtorch's accelerators.
#[derive(Debug)]
pub struct Accelerator {
    index: u32,
    name: String,
    pool: Pool,
    outage: Outage,
    broken: Broken,
    management: Option<Arc<Management>>,
}

/// A queue of operations of an accelerator.
#[derive(Debug)]
pub struct Stream(Arc<ffi::Stream>);

/// A point in a stream of an accelerator.
#[derive(Debug)]
pub struct Event(ffi::Event);

/// Host memory that copies to the device read.
type Uploading = Option<InFlight<Vec<HostTensor>>>;

/// Tensors in an accelerator's memory, or on their way to or from it.
#[derive(Debug)]
pub struct Buffer {
    /// Before the tensors, since it is dropped first: with it the host memory that they came from.
    uploading: Uploading,
    content: Content,
    /// The inputs of the pass, so that their last owner lets go of them here, after the pass: within
    /// libtorch that could be while the device breaks.
    held: Spared<DeviceTensor>,
}

#[derive(Debug)]
enum Content {
    /// What an upload or a pass gave.
    Placed(Spared<Option<Placed>>),
    /// In the order of the outputs; `None` is the next of those in flight.
    Downloading {
        outputs: Vec<Option<HostTensor>>,
        flight: InFlight<Vec<(DeviceTensor, HostBuf)>>,
    },
}

impl Accelerator {
    /// Finds the accelerators that `library` brings. Each page-locks at most `pinned_bytes` of the
    /// host's memory for its copies.
    ///
    /// # Errors
    /// There is none.
    pub fn find(library: &str, pinned_bytes: usize) -> Result<Vec<Arc<Self>>, Missing> {
        let found = library::find(library)?;
        let management = Management::load().map(Arc::new);
        let accelerator = |index| Self {
            index,
            name: format!("{}:{index}", found.kind),
            pool: Pool::pinned(Box::new(ffi::Locker), pinned_bytes),
            outage: Outage::default(),
            broken: Broken::default(),
            management: management.clone(),
        };
        Ok((0..found.count).map(accelerator).map(Arc::new).collect())
    }

    /// Returns libtorch's name with the index, as "cuda:0".
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the version of libtorch that this was built for.
    pub fn libtorch_version() -> String {
        ffi::libtorch_version()
    }

    /// Returns the index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Returns what the device's memory holds.
    ///
    /// # Errors
    /// The device failed.
    pub fn memory(&self) -> Result<Memory, Error> {
        ffi::memory(self.index).map_err(|failure| self.error(failure))
    }

    /// Asks libtorch and the driver how the device is doing.
    pub fn report(&self) -> Report {
        let management = self.management.as_ref();
        let facts = management.map(|management| management.facts(self.index));
        let facts = facts.unwrap_or_default();
        let memory = ffi::memory(self.index).unwrap_or_default();
        let pinned = self.pool.usage();
        Report {
            name: self.name.clone(),
            model: facts.model.unwrap_or_default(),
            driver: facts.driver,
            utilization_percent: facts.utilization_percent,
            memory_total_bytes: memory.total,
            memory_used_bytes: memory.total.saturating_sub(memory.free),
            pinned_bytes: pinned.pinned_bytes as u64,
            pinned_allocations: pinned.pinned,
        }
    }

    fn error(&self, failure: Failure) -> Error {
        self.broken.note(&failure);
        let device = self.name.clone();
        match failure {
            Failure::Operation(text) => Error::Operation {
                device,
                reason: library::shortened(&text),
            },
            Failure::OutOfMemory(text) => Error::OutOfMemory {
                device,
                reason: library::shortened(&text),
            },
            Failure::Final(text) => Error::Failed {
                device,
                reason: library::shortened(&text),
            },
        }
    }

    fn placed(&self, tensor: tch::Tensor) -> Result<Placed, Error> {
        DeviceTensor::new(tensor)
            .map(Placed::Device)
            .map_err(|actual| self.error(Failure::Operation(format!("a tensor is {actual}"))))
    }

    fn run(
        &self,
        stream: &Stream,
        inputs: Vec<Option<Placed>>,
        work: Work,
    ) -> Result<Vec<Placed>, Error> {
        for input in inputs.iter().flatten() {
            if let Placed::Device(tensor) = input {
                // A model may keep its input, or let go of it while the pass is on its way.
                stream
                    .0
                    .keep(tensor)
                    .map_err(|failure| self.error(failure))?;
            }
        }
        let _entered = stream.0.enter().map_err(|failure| self.error(failure))?;
        let outputs = work(inputs).map_err(Error::from);
        if outputs.as_ref().is_err_and(Error::is_final) {
            self.broken.set();
        }
        outputs
    }

    fn buffer(&self, tensors: Vec<Option<Placed>>, uploading: Uploading) -> Buffer {
        Buffer {
            uploading,
            content: Content::Placed(self.broken.spare(tensors)),
            held: self.broken.spare(Vec::new()),
        }
    }
}

impl Device for Accelerator {
    type Stream = Stream;
    type Event = Event;
    type Buffer = Buffer;

    fn location(&self) -> Location {
        Location::Accelerator(self.index)
    }

    fn has_own_memory(&self) -> bool {
        true
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn open_stream(&self, _name: &str) -> Result<Stream, Error> {
        ffi::Stream::open(self.index, self.broken.clone())
            .map(Stream)
            .map_err(|failure| self.error(failure))
    }

    fn upload(
        &self,
        stream: &Stream,
        tensors: Vec<Option<HostTensor>>,
        on_host: &[bool],
    ) -> Result<Buffer, Error> {
        let stays = |index: usize, tensor: &HostTensor| {
            on_host.get(index) == Some(&true) || torch::kind(tensor.datatype).is_none()
        };
        // Those that are copied leave a gap that the copies fill, in order.
        let mut sources = Vec::new();
        let mut gaps = Vec::new();
        let mut placed = Vec::with_capacity(tensors.len());
        for (index, tensor) in tensors.into_iter().enumerate() {
            placed.push(match tensor {
                Some(tensor) if !stays(index, &tensor) => {
                    sources.push(tensor);
                    gaps.push(index);
                    None
                }
                tensor => tensor.map(Placed::Host),
            });
        }
        if sources.is_empty() {
            return Ok(self.buffer(placed, None));
        }
        let (copies, flight) = stream
            .0
            .upload(sources)
            .map_err(|failure| self.error(failure))?;
        for (gap, copy) in gaps.into_iter().zip(copies) {
            placed[gap] = Some(self.placed(copy)?);
        }
        Ok(self.buffer(placed, Some(flight)))
    }

    fn launch(&self, stream: &Stream, inputs: Buffer, work: Work) -> Result<Buffer, Error> {
        let Buffer {
            uploading, content, ..
        } = inputs;
        let inputs = self.ready(content)?.take();
        let held = inputs.iter().flatten().filter_map(|input| match input {
            Placed::Device(tensor) => Some(tensor.share()),
            Placed::Host(_) => None,
        });
        let held = self.broken.spare(held.collect());
        match self.run(stream, inputs, work) {
            Ok(outputs) => {
                let outputs = outputs.into_iter().map(Some).collect();
                Ok(Buffer {
                    held,
                    ..self.buffer(outputs, uploading)
                })
            }
            Err(error) => {
                // First what waits for the device, which tells whether it is broken.
                drop(uploading);
                drop(held);
                Err(error)
            }
        }
    }

    fn download(&self, stream: &Stream, outputs: Buffer) -> Result<Buffer, Error> {
        // The last one to be dropped, where this fails, comes first.
        let Buffer {
            held,
            content,
            uploading,
        } = outputs;
        let mut pairs = Vec::new();
        let mut landed = Vec::new();
        for output in self.ready(content)?.take().into_iter().flatten() {
            landed.push(match output {
                Placed::Host(tensor) => Some(tensor),
                Placed::Device(tensor) => {
                    let target = self.pool.lease(tensor.bytes());
                    pairs.push((tensor, target));
                    None
                }
            });
        }
        let flight = stream
            .0
            .download(pairs)
            .map_err(|failure| self.error(failure))?;
        Ok(Buffer {
            uploading,
            content: Content::Downloading {
                outputs: landed,
                flight,
            },
            held,
        })
    }

    fn record(&self, stream: &Stream) -> Result<Event, Error> {
        let recorded = stream.0.record(true).map(Event);
        recorded.map_err(|failure| self.error(failure))
    }

    fn wait(&self, stream: &Stream, event: &Event) -> Result<(), Error> {
        let waits = stream.0.wait(&event.0);
        waits.map_err(|failure| self.error(failure))
    }

    fn synchronize(&self, event: &Event) -> Result<(), Error> {
        let waited = event.0.synchronize();
        waited.map_err(|failure| self.error(failure))
    }

    fn finish(&self, downloaded: Buffer) -> Result<Vec<HostTensor>, Error> {
        let Buffer { content, .. } = downloaded;
        let Content::Downloading { outputs, flight } = content else {
            let text = "the outputs were not downloaded".to_owned();
            return Err(self.error(Failure::Operation(text)));
        };
        let flown = flight.land().map_err(|failure| self.error(failure))?;
        let mut flown = flown.into_iter().map(|(tensor, target)| HostTensor {
            datatype: tensor.datatype(),
            shape: tensor.shape().clone(),
            data: HostData::Slab(target),
        });
        let fill = |output: Option<HostTensor>| output.or_else(|| flown.next());
        Ok(outputs.into_iter().filter_map(fill).collect())
    }

    fn elapsed(&self, from: &Event, to: &Event) -> Duration {
        from.0.elapsed(&to.0).unwrap_or_default()
    }

    fn reclaim(&self) {
        if let Err(failure) = ffi::empty_cache() {
            tracing::warn!(device = %self.name, ?failure, "free memory was not given back");
        }
    }

    fn outage(&self) -> &Outage {
        &self.outage
    }
}

impl Accelerator {
    fn ready(&self, content: Content) -> Result<Spared<Option<Placed>>, Error> {
        match content {
            Content::Placed(tensors) => Ok(tensors),
            Content::Downloading { .. } => {
                let text = "the tensors are on their way to the host".to_owned();
                Err(self.error(Failure::Operation(text)))
            }
        }
    }
}
