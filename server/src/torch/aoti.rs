//! AOTInductor packages: models that were compiled ahead of time, with their weights.

use std::path::Path;

use tch::Tensor;

use super::ffi::RawPackage;
use crate::device::Location;

/// A loaded package. Several threads may run it at a time, each on a runner of its own; the weights
/// are there once.
#[derive(Debug)]
pub(crate) struct Package {
    raw: RawPackage,
}

/// A run failed. Packages write why to standard error, and pass on no more than that they failed.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The accelerator ran out of memory.
    OutOfMemory(String),
    /// Anything else.
    Failed(String),
}

impl Package {
    /// Returns the metadata of the package in `file`, a JSON object, without loading it.
    ///
    /// # Errors
    /// libtorch's text, here and below.
    pub(crate) fn describe(file: &Path) -> Result<String, String> {
        RawPackage::describe(file)
    }

    /// Loads the package in `file` to `location`, with as many runs at a time as `runners`.
    pub(crate) fn load(file: &Path, runners: usize, location: Location) -> Result<Self, String> {
        let device = match location {
            Location::Host => -1,
            Location::Accelerator(index) => {
                i8::try_from(index).map_err(|_| format!("there is no accelerator {index}"))?
            }
        };
        let raw = RawPackage::load(file, runners.max(1), device.into())?;
        Ok(Self { raw })
    }

    /// Returns how inputs and outputs are nested and named: two lines of JSON, of
    /// `torch.utils._pytree`.
    pub(crate) fn call_spec(&self) -> Result<String, String> {
        self.raw.call_spec()
    }

    /// Runs the package, on an accelerator on the calling thread's current stream.
    pub(crate) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.raw.run(inputs)
    }

    /// Loads the package in `file` for the host, and runs it once with the checks of its inputs
    /// that are compiled into it.
    pub(crate) fn probe(file: &Path, inputs: &[Tensor]) -> Result<(), String> {
        RawPackage::probe(file, inputs)
    }
}
