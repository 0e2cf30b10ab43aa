//! Models: what the executor runs.
//!
//! A [`Model`] is one version of a model on disk; it makes [`Instance`]s, each of which belongs to
//! one compute thread at a time and may keep state between calls.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    device::Location,
    tensor::{HostTensor, Placed},
    torch::{self, Failure},
};

mod aoti;
mod file;
mod identity;
pub(crate) mod sample;
mod schema;
mod torchscript;

pub use aoti::{Aoti, Settings as AotiSettings};
pub use file::File;
pub use identity::Identity;
pub use schema::{Argument, ArgumentKind, Schema};
pub use torchscript::{Settings as TorchSettings, TorchScript};

/// A model that was loaded and checked.
pub trait Model: Send + Sync + fmt::Debug {
    /// Makes an instance with state of its own, whose passes run at `location`.
    ///
    /// # Errors
    /// The model's files are gone or no longer load, or there is no memory for it.
    fn instance(&self, location: Location) -> Result<Box<dyn Instance>, Error>;

    /// Returns what was found out about the model when it was loaded, by names for its
    /// configuration's `parameters`. Its instances are at these locations.
    fn facts(&self, _locations: &[Location]) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Makes sure that the model answers at `location`, an accelerator, as it does there unchanged, and
    /// takes less of what was done to it else. Returns whether it did. `run` runs an instance there.
    fn settle(&self, _location: Location, _run: &mut Trial<'_>) -> bool {
        false
    }

    /// Returns what passes over one row took on the host, where they were measured.
    fn row(&self) -> Option<RowTime> {
        None
    }

    /// Lets go of weights that are kept for further instances, which are then loaded again.
    fn release(&self) {}

    /// Returns for each input whether a pass reads it on the host wherever it runs: a number or a
    /// text that is no tensor for the model. Inputs beyond the end are tensors.
    fn host_inputs(&self) -> Vec<bool> {
        Vec::new()
    }
}

/// Runs an instance on the same inputs a few times, where it is, and returns the outputs of each pass.
pub type Trial<'a> =
    dyn FnMut(Box<dyn Instance>, &[Option<HostTensor>]) -> Result<Vec<Answers>, TrialError> + 'a;

/// The outputs of a pass.
pub type Answers = Vec<HostTensor>;

/// Why an instance could not be tried.
#[derive(Debug)]
pub enum TrialError {
    /// The model failed.
    Model(String),
    /// Something else did, which tells nothing of the model.
    Other(String),
}

/// What passes over one row take.
#[derive(Debug, Clone, Copy)]
pub struct RowTime {
    /// The first pass of all, which made what later ones found.
    pub first: Duration,
    /// A later one.
    pub later: Duration,
}

/// The memory that an instance's weights take. Instances may share it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weights {
    /// The same for instances that share them, and only for those, as long as they live.
    pub at: usize,
    /// How large they are.
    pub bytes: u64,
}

/// One copy of a model.
pub trait Instance: Send + fmt::Debug {
    /// Runs the model on `inputs`, which are in the order of the signature; an optional input that
    /// was left out is `None`. Returns the outputs in the order of the signature.
    ///
    /// On an accelerator the work is enqueued on the calling thread's current stream, and the
    /// outputs are tensors to be.
    ///
    /// # Errors
    /// The model threw, or its outputs are not what the configuration says.
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, Error>;

    /// Returns the memory that its weights take: as measured, or else as large as its file.
    fn weights(&self) -> Weights {
        Weights::default()
    }

    /// Forgets all state, as at the start of a sequence.
    ///
    /// # Errors
    /// As [`Model::instance`].
    fn reset(&mut self) -> Result<(), Error>;
}

/// A model cannot be loaded, or failed while it ran.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a model that libtorch reads.
    #[error("{file} does not load as TorchScript: {reason}; export it again with torch.jit.save")]
    Load {
        /// The model's file.
        file: String,
        /// What libtorch says, cut to a few lines.
        reason: String,
    },
    /// The file is not a package that AOTInductor's loader reads.
    #[error(
        "{file} does not load as an AOTInductor package: {reason}; \
         export it again with docs/export/export_aoti.py"
    )]
    Package {
        /// The package's file.
        file: String,
        /// What is wrong with it, cut to a few lines.
        reason: String,
    },
    /// The file has to be read again, and is not the one that was checked.
    #[error("{0}")]
    Changed(String),
    /// The package was compiled for something else than what it is to run on.
    #[error("{file} was compiled for {compiled}, but {wanted}; {mend}")]
    Elsewhere {
        /// The package's file.
        file: String,
        /// What it was compiled for.
        compiled: String,
        /// What it is to run on.
        wanted: String,
        /// What to do.
        mend: &'static str,
    },
    /// Configuration and model do not fit each other.
    #[error("{0}")]
    Mismatch(String),
    /// The model threw.
    #[error("the model failed: {0}")]
    Forward(String),
    /// A pass found no memory on its device.
    #[error("the device is out of memory: {0}")]
    OutOfMemory(String),
    /// A pass found its device broken; no later pass will do better.
    #[error("the device has failed: {0}")]
    DeviceFailed(String),
    /// An output is not what the configuration says.
    #[error("output '{name}' of the model is {actual}, but its configuration says {expected}")]
    Output {
        /// The output's name.
        name: String,
        /// What came.
        actual: String,
        /// What the configuration says.
        expected: String,
    },
    /// An input cannot be given to the model.
    #[error("input '{name}' {reason}")]
    Input {
        /// The input's name.
        name: String,
        /// Why not.
        reason: String,
    },
}

impl Error {
    /// Makes an error of what libtorch threw in a pass at `location`.
    pub(crate) fn thrown(text: &str, location: Location) -> Self {
        let said = concise(text);
        match (torch::classify(text), location) {
            (Failure::OutOfMemory, _) => Self::OutOfMemory(said),
            (Failure::Final, Location::Accelerator(_)) => Self::DeviceFailed(said),
            // The host's processors do not fail this way.
            (Failure::Final, Location::Host) | (Failure::Other, _) => Self::Forward(said),
        }
    }
}

/// Returns the last two parts of a file's path: clients are told of it too, and where the repository
/// lies is not their concern.
fn shown(file: &Path) -> String {
    let mut tail: Vec<_> = file.iter().rev().take(2).collect();
    tail.reverse();
    tail.iter().collect::<PathBuf>().display().to_string()
}

/// Cuts a text of libtorch's, which may print whole tensors and C++ back traces, to what helps.
fn concise(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut kept = String::new();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .take_while(|line| {
            let line = line.trim();
            !line.starts_with("Exception raised from") && !line.starts_with("frame #")
        })
        .collect();
    let error = torch::thrown(&lines).or_else(|| {
        let named = |line: &&&str| line.contains("Error") || line.contains("Exception");
        lines.iter().find(named).or(lines.last()).copied()
    });
    for line in [lines.first().copied(), error].into_iter().flatten() {
        let line: String = line.trim().chars().take(LONGEST).collect();
        if !kept.contains(&line) {
            if !kept.is_empty() {
                kept.push_str("; ");
            }
            kept.push_str(&line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_back_trace_stays_what_the_author_said_first() {
        let text = "Internal torch error: an operation failed.\n\
            Traceback of TorchScript, serialized code (most recent call last):\n  \
              File \"code/a.py\", line 3, in forward\n    \
                raise ValueError(text)\n\
            Traceback of TorchScript, original code (most recent call last):\n    \
                raise ValueError(text)\n\
            builtins.ValueError: too cold\n\
            line 2 of the text\n\
            Exception raised from run at interpreter.cpp:1\n\
            frame #0: somewhere";
        assert_eq!(
            concise(text),
            "Internal torch error: an operation failed.; builtins.ValueError: too cold"
        );
    }

    #[test]
    fn of_other_texts_stay_the_first_line_and_the_error() {
        let text = "while reading\n  and more\nRuntimeError: no\nthe end\n";
        assert_eq!(concise(text), "while reading; RuntimeError: no");
        assert_eq!(concise("first\nlast\n"), "first; last");
        assert_eq!(concise("only"), "only");
        assert!(concise(&"x".repeat(9000)).len() <= 300);
    }
}
