//! What the instances of a model version are made of, each time they come into memory.

use std::{collections::BTreeMap, sync::Arc};

use super::load::Error;
use crate::{
    device::{AnyDevice, Device},
    executor::{self, Context, Parts, Pipeline},
    model::{self, File, Instance, Model},
    scheduler::Scheduler,
};

/// What the instances of a version are made of.
#[derive(Debug)]
pub(super) struct Blueprint {
    pub(super) model: Box<dyn Model>,
    pub(super) file: File,
    /// The device of each instance.
    pub(super) places: Vec<AnyDevice>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) context: Arc<Context>,
    pub(super) config: executor::Config,
}

/// Instances that serve nothing yet.
pub(super) struct Started {
    pub(super) pipelines: Vec<Pipeline>,
    /// What their weights take together.
    pub(super) bytes: u64,
}

impl Blueprint {
    /// Makes the instances, each at its place. On failure those that were made end once the scheduler
    /// is closed or suspended.
    pub(super) fn start(&self) -> Result<Started, Error> {
        let mut pipelines = Vec::with_capacity(self.places.len());
        // By where they are: instances share them.
        let mut weights = BTreeMap::new();
        for (index, place) in self.places.iter().enumerate() {
            let instance = self.model.instance(place.location());
            let instance = instance.inspect_err(|error| {
                if let model::Error::DeviceFailed(reason) = error {
                    place.declare_lost(reason);
                }
            })?;
            let its = instance.weights();
            weights.insert(its.at, its.bytes);
            pipelines.push(match place {
                AnyDevice::Cpu(device) => Pipeline::spawn_cold(self.parts(device, index, instance)),
                AnyDevice::Simulated(device) => {
                    Pipeline::spawn_cold(self.parts(device, index, instance))
                }
                AnyDevice::Accelerator(device) => {
                    Pipeline::spawn_cold(self.parts(device, index, instance))
                }
            }?);
        }
        // Instances hold what they run. What was tried on the host for those on a device is not needed.
        self.model.release();
        Ok(Started {
            pipelines,
            bytes: weights.values().sum(),
        })
    }

    fn parts<D: Device>(
        &self,
        device: &Arc<D>,
        index: usize,
        instance: Box<dyn Instance>,
    ) -> Parts<D> {
        Parts {
            device: Arc::clone(device),
            scheduler: Arc::clone(&self.scheduler),
            index,
            instance,
            context: Arc::clone(&self.context),
            config: self.config,
        }
    }

    /// Lets go of the memory that instances have left behind.
    pub(super) fn release(&self) {
        self.model.release();
        for place in super::place::distinct(&self.places) {
            place.reclaim();
        }
        crate::torch::trim();
    }
}
