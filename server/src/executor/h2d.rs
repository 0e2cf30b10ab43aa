//! The first stage: enqueues the copy of inputs to the device.

use std::sync::Arc;

use super::Context;
use crate::{
    device::{self, Device},
    tensor::HostTensor,
};

/// The stage and its stream.
#[derive(Debug)]
pub(super) struct Stage<D: Device> {
    pub(super) device: Arc<D>,
    pub(super) stream: D::Stream,
    pub(super) context: Arc<Context>,
}

/// Inputs that are on the device, or on their way to it.
#[derive(Debug)]
pub(super) struct Uploaded<D: Device> {
    pub(super) inputs: D::Buffer,
    /// Before and after the copy.
    pub(super) upload: (D::Event, D::Event),
}

impl<D: Device> Stage<D> {
    /// Runs the stage.
    pub(super) fn run(
        &self,
        tensors: Vec<Option<HostTensor>>,
    ) -> Result<Uploaded<D>, device::Error> {
        let start = self.device.record(&self.stream)?;
        let on_host = &self.context.host_inputs;
        let inputs = self.device.upload(&self.stream, tensors, on_host)?;
        let ready = self.device.record(&self.stream)?;
        Ok(Uploaded {
            inputs,
            upload: (start, ready),
        })
    }
}
