//! The inputs of a queued request, or the outputs of an answered one, that are parked on disk.
//!
//! Invariant: the budget's bytes of an input are given back when it is written, not before; one that
//! could not be written keeps its bytes for as long as it is in memory.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use forebay_proto::{DataType, Shape, Tensor};
use forebay_spill::Parked;

use crate::admission::Permit;

/// What of a job leaves memory together: its inputs, and the budget's bytes that they hold. Or its outputs,
/// which hold those bytes themselves until they leave.
#[derive(Debug)]
pub struct Cargo {
    /// Inputs in the order of the signature.
    pub inputs: Vec<Option<Tensor>>,
    /// The host memory they hold.
    pub permit: Option<Permit>,
}

/// A job's inputs, or outputs, while the large ones of them are on disk.
#[derive(Debug)]
pub struct Stowed {
    /// Inputs in the order of the signature.
    pub inputs: Vec<Option<Input>>,
    /// The host memory that the small ones hold.
    pub permit: Option<Permit>,
    /// The host memory of what could not be written.
    pub unwritten: Unwritten,
    /// When they left memory.
    pub since: Instant,
}

/// One input, or output.
#[derive(Debug)]
pub enum Input {
    /// Too small to be worth the way.
    Kept(Tensor),
    /// On disk.
    Parked {
        /// Its name.
        name: String,
        /// Its element type.
        datatype: DataType,
        /// Its dimensions.
        shape: Shape,
        /// Where its elements are.
        parked: Parked,
    },
}

impl Stowed {
    /// Returns how many bytes come back into memory with it.
    pub fn parked_bytes(&self) -> u64 {
        self.sum(|input| match input {
            Input::Kept(_) => 0,
            Input::Parked { parked, .. } => parked.len(),
        })
    }

    /// Returns how many bytes of its inputs are in memory.
    pub fn kept_bytes(&self) -> u64 {
        self.sum(|input| match input {
            Input::Kept(tensor) => tensor.data().len(),
            Input::Parked { .. } => 0,
        })
    }

    fn sum(&self, bytes: impl Fn(&Input) -> usize) -> u64 {
        let inputs = self.inputs.iter().flatten();
        inputs.map(|input| bytes(input) as u64).sum()
    }
}

/// A place for a permit whose bytes are still in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Unwritten(Arc<Mutex<Option<Permit>>>);

impl Unwritten {
    /// Puts a permit there, which goes when the last clone does.
    pub fn put(&self, permit: Permit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// Takes the permit.
    pub fn take(&self) -> Option<Permit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
