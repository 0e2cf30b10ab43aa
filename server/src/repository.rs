//! The model repository: a folder of models in Triton's layout, `<model>/config.pbtxt` and
//! `<model>/<version>/model.pt`.
//!
//! A scan reads and validates, and loads nothing. It yields one result for each model, so that a
//! broken one never hides the others, and reports all that is wrong with it, each fault with its
//! mend.
//!
//! Invariant: no path in a [`ModelEntry`] leads out of the repository, also not by symlink.

mod confined;
mod entry;
mod faults;
mod instances;
mod name;
pub mod pbtxt;
mod report;
mod scheduling;
mod settings;
mod tensors;
mod versions;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use self::{
    entry::{ModelEntry, ModelFault, ScannedModel},
    instances::{InstanceGroup, InstanceKind},
    report::{Report, Tried},
    scheduling::{DynamicBatching, QueuePolicy, Scheduling, SequenceBatching},
    settings::{Backend, ExecutorSettings, ModelSettings, WarmupData, WarmupInput, WarmupSample},
    versions::{Version, VersionPolicy},
};

/// A folder of models.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The folder, absolute and without symlinks.
    root: PathBuf,
    schema: pbtxt::Schema,
}

/// The repository as a whole cannot be read. Faults of one model are [`ModelFault`]s.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or not for this user to read.
    #[error("cannot read the model repository '{}'; name a folder that exists and is readable", dir.display())]
    Unreadable {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else than a folder.
    #[error("the model repository '{}' is not a folder; name the folder that holds the models' folders", dir.display())]
    NotAFolder {
        /// The path.
        dir: PathBuf,
    },
}

impl Repository {
    /// Opens the repository in `dir`.
    ///
    /// # Errors
    /// `dir` is not a folder, or cannot be read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable {
            dir: dir.to_owned(),
            source,
        };
        let root = dir.canonicalize().map_err(unreadable)?;
        if !root.is_dir() {
            return Err(Error::NotAFolder {
                dir: dir.to_owned(),
            });
        }
        fs::read_dir(&root).map_err(unreadable)?;
        Ok(Self {
            root,
            schema: pbtxt::Schema::new(),
        })
    }

    /// Returns the folder, absolute and without symlinks.
    pub fn dir(&self) -> &Path {
        &self.root
    }

    /// Reads every model, in the order of their names. Plain files, and names that begin with a
    /// dot, are none.
    ///
    /// # Errors
    /// The repository itself cannot be read any more.
    pub fn scan(&self) -> Result<Vec<ScannedModel>, Error> {
        let mut names = self.names().map_err(|source| Error::Unreadable {
            dir: self.root.clone(),
            source,
        })?;
        names.sort_unstable();
        Ok(names.iter().map(|name| self.model(name)).collect())
    }

    /// Reads one model, by name.
    ///
    /// # Errors
    /// All that is wrong with it; that it is not there is one fault.
    pub fn model(&self, name: &str) -> ScannedModel {
        entry::read(&self.root, &self.schema, name).map_err(|faults| ModelFault {
            name: name.to_owned(),
            faults,
        })
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            // A name that is no text cannot be a model's: it is shown, and found wrong, below.
            let name = entry.file_name().to_string_lossy().into_owned();
            // A symlink to nothing is no plain file, so that it is reported.
            let plain = fs::metadata(entry.path()).is_ok_and(|metadata| !metadata.is_dir());
            if !name.starts_with('.') && !plain {
                names.push(name);
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests;
