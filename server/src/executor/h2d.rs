//! The first stage: joins the inputs of a batch and enqueues their copy to the device.

use std::{sync::Arc, time::Instant};

use super::{Context, batch::Batch, recovery::Stop};
use crate::{device::Device, error::Error};

/// The stage and its stream.
#[derive(Debug)]
pub(super) struct Stage<D: Device> {
    pub(super) device: Arc<D>,
    pub(super) stream: D::Stream,
    pub(super) context: Arc<Context>,
}

/// A batch whose inputs are on the device, or on their way to it.
#[derive(Debug)]
pub(super) struct Uploaded<D: Device> {
    pub(super) batch: Batch,
    pub(super) inputs: D::Buffer,
    /// When gathering began, on the host.
    pub(super) began: Instant,
    /// Before the copy.
    pub(super) start: D::Event,
    /// After the copy.
    pub(super) ready: D::Event,
}

impl<D: Device> Stage<D> {
    /// Runs the stage. A batch that fails comes back with the error.
    pub(super) fn run(&self, mut batch: Batch) -> Result<Uploaded<D>, Stop> {
        if !batch.prune() {
            return Err(Stop::Gone);
        }
        let began = Instant::now();
        let upload = |batch: &mut Batch| -> Result<_, Error> {
            let tensors = batch.gather(self.device.pool(), self.device.has_own_memory())?;
            let start = self.device.record(&self.stream)?;
            let on_host = &self.context.host_inputs;
            let inputs = self.device.upload(&self.stream, tensors, on_host)?;
            Ok((start, inputs, self.device.record(&self.stream)?))
        };
        match upload(&mut batch) {
            Ok((start, inputs, ready)) => Ok(Uploaded {
                batch,
                inputs,
                began,
                start,
                ready,
            }),
            Err(error) => Err(Stop::failed(batch, error)),
        }
    }
}
