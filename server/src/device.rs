//! Devices: streams, events, copies, and the memory they touch.
//!
//! The executor knows only [`Device`]. Work is enqueued on streams; operations on one stream run in
//! order, operations on different streams are ordered by events alone. Nothing waits but
//! [`Device::synchronize`].
//!
//! Invariant: memory that an operation touches is owned by it until it completes. Buffers go in by
//! value, and [`Device::finish`] gives host tensors back once the operation is known to be done. An
//! operation that is refused keeps what it was given until earlier operations are done with it.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    memory::Pool,
    model,
    tensor::{HostTensor, Placed},
};

mod accelerator;
mod config;
mod cpu;
mod devices;
mod inventory;
mod outage;
mod report;
pub mod simulated;

pub use accelerator::{Accelerator, Memory, Missing};
pub use config::{Config, Kind, OnFailure};
pub use cpu::Cpu;
pub use devices::{Devices, Unavailable};
pub use inventory::inventory;
pub use outage::Outage;
pub use report::Report;
pub use simulated::Simulated;

/// A forward pass: takes the inputs of a batch, gives its outputs.
pub type Work = Box<dyn FnOnce(Vec<Option<Placed>>) -> Result<Vec<Placed>, model::Error> + Send>;

/// Where forward passes run, and with it the weights of their models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// On the host's processors.
    Host,
    /// On libtorch's accelerator of this index.
    Accelerator(u32),
}

/// An accelerator, or something that behaves like one.
pub trait Device: Send + Sync + fmt::Debug + 'static {
    /// A queue of operations that run in order.
    type Stream: Send + fmt::Debug;
    /// A point in a stream.
    type Event: Send + fmt::Debug;
    /// Tensors in the device's memory, or on their way to or from it.
    type Buffer: Send + fmt::Debug;

    /// Returns where passes run.
    fn location(&self) -> Location;

    /// Returns whether the device has memory of its own, so that tensors are copied to it and back,
    /// and the copies can run while a pass does. Where it has none, stages gain nothing, and the
    /// inputs of a single job are lent to the pass as they came.
    fn has_own_memory(&self) -> bool;

    /// Returns where batches are gathered and outputs land: memory that the device copies from and
    /// to without a further copy.
    fn pool(&self) -> &Pool;

    /// Makes a stream.
    ///
    /// # Errors
    /// The device has no room for one.
    fn open_stream(&self, name: &str) -> Result<Self::Stream, Error>;

    /// Enqueues the copy of `tensors` to the device, save those that `on_host` tells the pass to
    /// read on the host; tensors beyond its end are copied.
    ///
    /// # Errors
    /// The device failed or is out of memory.
    fn upload(
        &self,
        stream: &Self::Stream,
        tensors: Vec<Option<HostTensor>>,
        on_host: &[bool],
    ) -> Result<Self::Buffer, Error>;

    /// Enqueues `work` on `inputs`, and returns its outputs to be.
    ///
    /// # Errors
    /// The device failed, or runs at once and the work failed.
    fn launch(
        &self,
        stream: &Self::Stream,
        inputs: Self::Buffer,
        work: Work,
    ) -> Result<Self::Buffer, Error>;

    /// Enqueues the copy of `outputs` to the host.
    ///
    /// # Errors
    /// The device failed.
    fn download(&self, stream: &Self::Stream, outputs: Self::Buffer)
    -> Result<Self::Buffer, Error>;

    /// Marks the point that `stream` has been filled up to.
    ///
    /// # Errors
    /// The device failed.
    fn record(&self, stream: &Self::Stream) -> Result<Self::Event, Error>;

    /// Makes what is enqueued on `stream` from here on wait for `event`.
    ///
    /// # Errors
    /// The device failed.
    fn wait(&self, stream: &Self::Stream, event: &Self::Event) -> Result<(), Error>;

    /// Blocks the calling thread until `event` has happened.
    ///
    /// # Errors
    /// The device failed.
    fn synchronize(&self, event: &Self::Event) -> Result<(), Error>;

    /// Takes the tensors out of a buffer that was downloaded and synchronized with.
    ///
    /// # Errors
    /// What went wrong in any operation that led to the buffer.
    fn finish(&self, downloaded: Self::Buffer) -> Result<Vec<HostTensor>, Error>;

    /// Returns the time between two events that have happened.
    fn elapsed(&self, from: &Self::Event, to: &Self::Event) -> Duration;

    /// Gives back memory of the device that is kept for reuse, as after running out of it.
    fn reclaim(&self) {}

    /// Returns whether the device has failed for good. The executor declares it where an operation
    /// says so.
    fn outage(&self) -> &Outage;
}

/// A device of whichever kind.
#[derive(Debug, Clone)]
pub enum AnyDevice {
    /// The CPU.
    Cpu(Arc<Cpu>),
    /// An accelerator made of threads.
    Simulated(Arc<Simulated>),
    /// One of libtorch's accelerators.
    Accelerator(Arc<Accelerator>),
}

impl AnyDevice {
    /// Returns the name that statistics and errors know it by.
    pub fn name(&self) -> &str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::Simulated(_) => "simulated",
            Self::Accelerator(device) => device.name(),
        }
    }

    /// Returns where the tensors of a pass lie.
    pub fn location(&self) -> Location {
        match self {
            Self::Cpu(device) => device.location(),
            Self::Simulated(device) => device.location(),
            Self::Accelerator(device) => device.location(),
        }
    }

    /// Gives back memory that is kept for reuse; see [`Device::reclaim`].
    pub fn reclaim(&self) {
        match self {
            Self::Cpu(device) => device.reclaim(),
            Self::Simulated(device) => device.reclaim(),
            Self::Accelerator(device) => device.reclaim(),
        }
    }

    /// Declares that the device has failed for good; see [`Device::outage`].
    pub fn declare_lost(&self, reason: &str) {
        match self {
            Self::Cpu(device) => device.outage().declare(reason),
            Self::Simulated(device) => device.outage().declare(reason),
            Self::Accelerator(device) => device.outage().declare(reason),
        }
    }

    /// Tells how the device is doing. Asks the driver, which may take some milliseconds.
    pub fn report(&self) -> Report {
        match self {
            Self::Accelerator(device) => device.report(),
            Self::Cpu(_) | Self::Simulated(_) => Report {
                name: self.name().to_owned(),
                ..Report::default()
            },
        }
    }
}

/// An operation of a device failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The forward pass failed.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// Memory was used in an order that streams and events do not guarantee.
    #[error("device hazard: {0}")]
    Hazard(simulated::Hazard),
    /// The device is gone.
    #[error("device '{0}' has stopped")]
    Stopped(String),
    /// An operation failed, and others may succeed.
    #[error("device '{device}' could not do an operation: {reason}")]
    Operation {
        /// The device.
        device: String,
        /// What it says.
        reason: String,
    },
    /// There is no memory on the device for an operation.
    #[error("device '{device}' is out of memory: {reason}")]
    OutOfMemory {
        /// The device.
        device: String,
        /// What was asked for, as far as it is known.
        reason: String,
    },
    /// The device reports an error that no later operation will be free of.
    #[error("device '{device}' has failed: {reason}")]
    Failed {
        /// The device.
        device: String,
        /// What it says.
        reason: String,
    },
}

impl Error {
    /// Returns whether less work at a time, or later, may succeed.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(
            self,
            Self::OutOfMemory { .. } | Self::Model(model::Error::OutOfMemory(_))
        )
    }

    /// Returns whether nothing on the device will succeed any more.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Stopped(_) | Self::Failed { .. } | Self::Model(model::Error::DeviceFailed(_))
        )
    }
}
