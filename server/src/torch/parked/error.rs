//! What can go wrong with a tensor on its way into the store and back.
//!
//! Invariant: whatever can be had still comes back with the error.

use forebay_spill::Error;
use tch::{Device, Kind, TchError, Tensor};

use super::ParkedTensor;

/// Why a tensor did not go into the store, or did not come back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// It is not in host memory.
    #[error("the tensor is on {0:?}: move it to the CPU before it is offloaded")]
    Elsewhere(Device),
    /// It is more than its elements: it has scales, too.
    #[error("the tensor is quantised, of {0:?}: offload its int_repr and keep its scales")]
    Quantised(Kind),
    /// It has no memory of an element for each index.
    #[error("the tensor is not dense: make it so, or offload its indices and values")]
    NotDense,
    /// libtorch could not make it row-major.
    #[error("libtorch cannot make the tensor dense and row-major")]
    Torch(#[from] TchError),
    /// libtorch could not make it anew.
    #[error("libtorch cannot make a tensor of what came back: {0}")]
    Rebuild(String),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] Error),
}

/// A tensor that was not accepted, and why.
#[derive(Debug, thiserror::Error)]
#[error("the tensor was not accepted")]
pub struct RefusedTensor {
    /// Why.
    #[source]
    pub error: TensorError,
    /// The tensor, untouched.
    pub tensor: Tensor,
}

/// A tensor that did not come back, and why.
#[derive(Debug, thiserror::Error)]
#[error("the tensor did not come back")]
pub struct LostTensor {
    /// Why.
    #[source]
    pub error: TensorError,
    /// The tensor where it was, if trying again can help.
    pub tensor: Option<ParkedTensor>,
}
