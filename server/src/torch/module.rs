//! TorchScript modules.

use std::{fmt, path::Path, sync::Arc};

use bytes::Bytes;
use tch::Tensor;

use super::ffi::{PureModule, RawModule};
use crate::{device::Location, model::Weights};

/// A loaded TorchScript module, in evaluation mode. It may keep state between calls.
#[derive(Debug)]
pub(crate) struct Module {
    raw: RawModule,
}

/// How a module is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it was saved.
    Saved,
    /// With its constants folded in, batch normalizations too. Numbers may differ in the last
    /// digits.
    Frozen,
    /// Frozen, and with operations joined and turned to those of the device's own library.
    Optimized,
}

impl Form {
    /// Returns the form that has less done to it.
    pub(crate) fn less(self) -> Option<Self> {
        match self {
            Self::Saved => None,
            Self::Frozen => Some(Self::Saved),
            Self::Optimized => Some(Self::Frozen),
        }
    }

    /// Returns the number that the shim has for it.
    fn code(self) -> i32 {
        match self {
            Self::Saved => 0,
            Self::Frozen => 1,
            Self::Optimized => 2,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Saved => "saved",
            Self::Frozen => "frozen",
            Self::Optimized => "optimized",
        })
    }
}

/// A module whose passes change nothing in it, for several instances.
#[derive(Debug, Clone)]
pub(crate) struct SharedModule {
    pure: Arc<PureModule>,
}

impl SharedModule {
    /// Runs `forward`, without gradients.
    pub(crate) fn forward(&self, arguments: &[Argument]) -> Result<Vec<Output>, String> {
        self.pure.forward(arguments)
    }

    /// Returns the memory that its weights take.
    pub(crate) fn weights(&self) -> Weights {
        self.pure.weights()
    }
}

/// An argument of a forward pass.
#[derive(Debug)]
pub(crate) enum Argument {
    /// No value.
    None,
    /// A tensor.
    Tensor(Tensor),
    /// An `int`.
    Int(i64),
    /// A `float`.
    Float(f64),
    /// A `bool`.
    Bool(bool),
    /// A `List[str]` of `count` elements, in the form of BYTES tensors, which was checked.
    Texts {
        /// How many.
        count: usize,
        /// Each a little-endian `u32` length and that many bytes.
        elements: Bytes,
    },
}

/// An output of a forward pass. Nested tuples and lists come out flat.
#[derive(Debug)]
pub(crate) enum Output {
    /// A tensor.
    Tensor(Tensor),
    /// A list of texts.
    Texts {
        /// How many.
        count: usize,
        /// As in [`Argument::Texts`].
        elements: Bytes,
    },
    /// Something that no tensor of the protocol can hold.
    Other,
}

impl Module {
    /// Loads the module in `file` to where its passes run.
    ///
    /// # Errors
    /// libtorch's text, here and below.
    pub(crate) fn load(file: &Path, form: Form, location: Location) -> Result<Self, String> {
        let device = match location {
            Location::Host => -1,
            Location::Accelerator(index) => {
                i8::try_from(index).map_err(|_| format!("there is no accelerator {index}"))?
            }
        };
        let raw = RawModule::load(file, device.into(), form.code())?;
        Ok(Self { raw })
    }

    /// Makes one in another form of a module that was loaded onto the host as it was saved, without
    /// reading the file again; `None` where its passes may have changed something in it.
    pub(crate) fn in_form(&self, form: Form) -> Option<Result<Self, String>> {
        let made = || self.raw.in_form(form.code()).map(|raw| Self { raw });
        self.raw.is_pure().then(made)
    }

    /// Returns whether passes of both run the same operations in the same order, on the same numbers and
    /// weights of the same shapes. They are then taken to last as long.
    pub(crate) fn runs_the_same(&self, other: &Self) -> bool {
        self.raw.runs_the_same(&other.raw)
    }

    /// Lets instances share the module.
    ///
    /// # Errors
    /// Passes may change something in it; it comes back.
    pub(crate) fn share(self) -> Result<SharedModule, Self> {
        let pure = PureModule::new(self.raw).map_err(|raw| Self { raw })?;
        let pure = Arc::new(pure);
        Ok(SharedModule { pure })
    }

    /// Describes method `forward`, in the lines that `shim/torch.h` tells of.
    pub(crate) fn schema(&mut self) -> Result<String, String> {
        self.raw.schema()
    }

    /// Runs `forward`, without gradients.
    pub(crate) fn forward(&mut self, arguments: &[Argument]) -> Result<Vec<Output>, String> {
        self.raw.forward(arguments)
    }

    /// Returns the memory that its weights take.
    pub(crate) fn weights(&self) -> Weights {
        self.raw.weights()
    }

    /// Runs `reset_states`.
    pub(crate) fn reset(&mut self) -> Result<(), String> {
        self.raw.reset()
    }
}

#[cfg(test)]
#[path = "module_tests.rs"]
mod tests;
