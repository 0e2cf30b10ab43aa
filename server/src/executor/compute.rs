//! The second stage: enqueues the forward pass behind the copy of its inputs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{batch::Batch, h2d::Uploaded, recovery::Stop};
use crate::{
    device::{self, Device, Work},
    model::Instance,
    request::Life,
};

/// The stage, its stream and the model's copy.
#[derive(Debug)]
pub(super) struct Stage<D: Device> {
    pub(super) device: Arc<D>,
    /// All passes of the instance are on this stream, also those of batches that are tried again on
    /// another thread. Locked while a pass is enqueued.
    pub(super) stream: Arc<Mutex<D::Stream>>,
    /// Locked by the pass that runs. Never contended: passes of an instance are on one stream.
    pub(super) copy: Arc<Mutex<ModelCopy>>,
}

/// A model's copy, and whose state it holds.
#[derive(Debug)]
pub(super) struct ModelCopy {
    instance: Box<dyn Instance>,
    /// `None` until the first request of a sequence.
    life: Option<Life>,
}

impl ModelCopy {
    pub(super) fn new(instance: Box<dyn Instance>) -> Self {
        Self {
            instance,
            life: None,
        }
    }
}

/// A batch whose outputs are on the device, or are being computed there.
#[derive(Debug)]
pub(super) struct Computed<D: Device> {
    pub(super) batch: Batch,
    pub(super) outputs: D::Buffer,
    pub(super) began: Instant,
    /// Before and after the copy to the device.
    pub(super) upload: (D::Event, D::Event),
    /// Before and after the forward pass.
    pub(super) pass: (D::Event, D::Event),
}

impl<D: Device> Stage<D> {
    /// Runs the stage. A batch that fails comes back with the error.
    pub(super) fn run(&self, uploaded: Uploaded<D>) -> Result<Computed<D>, Stop> {
        let Uploaded {
            mut batch,
            inputs,
            began,
            start,
            ready,
        } = uploaded;
        if !batch.prune() {
            // The inputs may go once their copy is over.
            let _gone = self.device.synchronize(&ready);
            return Err(Stop::Gone);
        }
        let work = self.work(batch.life());
        let launch = || -> Result<_, device::Error> {
            let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            self.device.wait(&stream, &ready)?;
            let before = self.device.record(&stream)?;
            let outputs = self.device.launch(&stream, inputs, work)?;
            Ok((outputs, (before, self.device.record(&stream)?)))
        };
        match launch() {
            Ok((outputs, pass)) => Ok(Computed {
                batch,
                outputs,
                began,
                upload: (start, ready),
                pass,
            }),
            Err(error) => Err(Stop::failed(batch, error)),
        }
    }

    fn work(&self, life: Option<Life>) -> Work {
        let copy = Arc::clone(&self.copy);
        Box::new(move |inputs| {
            let mut copy = copy.lock().unwrap_or_else(PoisonError::into_inner);
            // Not "at a start": the request that brought it may be gone before it got here.
            if life != copy.life {
                copy.instance.reset()?;
                copy.life = life;
            }
            copy.instance.forward(inputs)
        })
    }
}
