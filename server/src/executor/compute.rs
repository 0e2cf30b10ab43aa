//! The second stage: enqueues the forward pass behind the copy of its inputs.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::h2d::Uploaded;
use crate::{
    device::{self, Device, Location, Work},
    model::{self, Instance},
    request::Life,
};

/// The stage, its stream and the model's copy.
#[derive(Debug)]
pub(super) struct Stage<D: Device> {
    pub(super) device: Arc<D>,
    pub(super) stream: D::Stream,
    /// Locked by the pass that runs. Never contended: passes of an instance are on one stream.
    pub(super) copy: Arc<Mutex<ModelCopy>>,
}

/// A model's copy, and whose state it holds.
#[derive(Debug)]
pub(super) struct ModelCopy {
    instance: Box<dyn Instance>,
    /// `None` until the first request of a sequence.
    life: Option<Life>,
    /// Whether a pass has run since it was fresh.
    used: bool,
    /// Whether it is to forget all before the next pass.
    stale: bool,
}

impl ModelCopy {
    pub(super) fn new(instance: Box<dyn Instance>) -> Self {
        Self {
            instance,
            life: None,
            used: false,
            stale: false,
        }
    }

    /// Has it forget whatever state the model holds; on a device with streams before the next pass and
    /// where that runs, since the memory of its state belongs to that stream. What is fresh has none, and
    /// may cost a load to reset.
    pub(super) fn forget(&mut self, location: Location) -> Result<(), model::Error> {
        self.life = None;
        if mem::take(&mut self.used) {
            match location {
                Location::Host => self.instance.reset()?,
                Location::Accelerator(_) => self.stale = true,
            }
        }
        Ok(())
    }

    /// Makes it ready for a request of `life`.
    fn turn_to(&mut self, life: Option<Life>) -> Result<(), model::Error> {
        // Not "at a start": the request that brought it may be gone before it got here.
        if life != self.life || self.stale {
            self.instance.reset()?;
            (self.life, self.stale) = (life, false);
        }
        self.used = true;
        Ok(())
    }
}

/// Locks a model's copy. What a pass that panicked left in it is the model's own affair.
pub(super) fn lock(copy: &Mutex<ModelCopy>) -> MutexGuard<'_, ModelCopy> {
    copy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Outputs that are on the device, or are being computed there.
#[derive(Debug)]
pub(super) struct Computed<D: Device> {
    pub(super) outputs: D::Buffer,
    /// Before and after the copy to the device.
    pub(super) upload: (D::Event, D::Event),
    /// Before and after the forward pass.
    pub(super) pass: (D::Event, D::Event),
}

impl<D: Device> Stage<D> {
    /// Runs the stage for a batch of `life`.
    pub(super) fn run(
        &self,
        uploaded: Uploaded<D>,
        life: Option<Life>,
    ) -> Result<Computed<D>, device::Error> {
        let Uploaded { inputs, upload } = uploaded;
        self.device.wait(&self.stream, &upload.1)?;
        let before = self.device.record(&self.stream)?;
        let work = self.work(life);
        let outputs = self.device.launch(&self.stream, inputs, work)?;
        let after = self.device.record(&self.stream)?;
        Ok(Computed {
            outputs,
            upload,
            pass: (before, after),
        })
    }

    fn work(&self, life: Option<Life>) -> Work {
        let copy = Arc::clone(&self.copy);
        Box::new(move |inputs| {
            let mut copy = lock(&copy);
            copy.turn_to(life)?;
            copy.instance.forward(inputs)
        })
    }
}
