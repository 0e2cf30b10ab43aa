//! Models: what the executor runs.
//!
//! A [`Model`] is one version of a model on disk; it makes [`Instance`]s, each of which belongs to
//! one compute thread at a time and may keep state between calls.

use std::fmt;

use crate::tensor::HostTensor;

mod ffi;
mod identity;
mod schema;
mod torch_bytes;
mod torchscript;

pub use identity::Identity;
pub use schema::{Argument, ArgumentKind, Schema};
pub use torch_bytes::TorchBytes;
pub use torchscript::{Settings as TorchSettings, TorchScript};

/// A model that was loaded and checked.
pub trait Model: Send + Sync + fmt::Debug {
    /// Makes a copy of the model with state of its own.
    ///
    /// # Errors
    /// The model's files are gone or no longer load.
    fn instance(&self) -> Result<Box<dyn Instance>, Error>;
}

/// One copy of a model.
pub trait Instance: Send + fmt::Debug {
    /// Runs the model on `inputs`, which are in the order of the signature; an optional input that
    /// was left out is `None`. Returns the outputs in the order of the signature.
    ///
    /// # Errors
    /// The model threw, or its outputs are not what the configuration says.
    fn forward(&mut self, inputs: Vec<Option<HostTensor>>) -> Result<Vec<HostTensor>, Error>;

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
    /// Configuration and model do not fit each other.
    #[error("{0}")]
    Mismatch(String),
    /// The model threw.
    #[error("the model failed: {0}")]
    Forward(String),
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

/// Cuts a text of libtorch's, which may print whole tensors and C++ back traces, to what helps.
fn concise(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut kept = String::new();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // What the model's author wrote comes last in a TorchScript back trace, so keep both ends.
    let lines: Vec<&str> = lines
        .take_while(|line| {
            !line.starts_with("Exception raised from") && !line.starts_with("frame #")
        })
        .collect();
    let error = lines
        .iter()
        .find(|line| line.contains("Error") || line.contains("Exception"));
    for line in [lines.first(), error, lines.last()].into_iter().flatten() {
        if !kept.contains(line) {
            if !kept.is_empty() {
                kept.push_str("; ");
            }
            kept.extend(line.chars().take(LONGEST));
        }
    }
    kept
}
