//! What the instances of a model version are made of, each time they come into memory.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::load::Error;
use crate::{
    device::{AnyDevice, Device},
    executor::{self, Context, Parts, Pipeline},
    model::{Instance, Model},
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
            let instance = self.model.instance(place.location())?;
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

/// A model's file as it was when the version was checked.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    state: Option<(u64, SystemTime)>,
}

impl File {
    /// Notes the state of the file at `path`. What is no file never changes.
    pub(super) fn look(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            state: state(path).ok().flatten(),
        }
    }

    /// Checks that it is still the one that was checked: all that is known of the model holds for it.
    pub(super) fn check(&self) -> Result<(), String> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        match state(&self.path) {
            Err(error) => Err(format!(
                "{name} cannot be read again ({error}); put it back"
            )),
            Ok(state) if state != self.state => Err(format!(
                "{name} is not the file that was loaded at start; put that back, or start the server again"
            )),
            Ok(_) => Ok(()),
        }
    }
}

fn state(path: &Path) -> io::Result<Option<(u64, SystemTime)>> {
    let file = fs::metadata(path)?;
    Ok(match file.is_file() {
        true => Some((file.len(), file.modified()?)),
        false => None,
    })
}
