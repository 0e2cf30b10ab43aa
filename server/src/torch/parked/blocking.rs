//! The store of tensors for callers without a runtime.

use tch::Tensor;

use super::{LostTensor, ParkedTensor, RefusedTensor, TensorError, TensorStore, dense};

/// The store's calls, each of which returns when what it is for is done. They put the calling thread
/// to sleep, so they are not for threads of an async runtime.
#[derive(Debug, Clone, Copy)]
pub struct BlockingTensors<'a>(pub(super) &'a TensorStore);

impl BlockingTensors<'_> {
    /// Offloads a tensor and waits until it is written. One that cannot be written is parked in
    /// memory; [`Parked::settled`](forebay_spill::Parked::settled) tells why.
    ///
    /// # Errors
    /// As [`TensorStore::offload`].
    pub fn offload_and_wait(&self, tensor: Tensor) -> Result<ParkedTensor, RefusedTensor> {
        let offloaded = dense(&tensor).and_then(|(layout, bytes)| {
            let parked = self.0.0.blocking().offload_and_wait(bytes);
            let parked = parked.map_err(|refused| refused.error)?;
            Ok(ParkedTensor { parked, layout })
        });
        offloaded.map_err(|error| RefusedTensor { error, tensor })
    }

    /// Brings a tensor back.
    ///
    /// # Errors
    /// As [`TensorStore::onboard`].
    pub fn onboard(&self, tensor: ParkedTensor) -> Result<Tensor, LostTensor> {
        let ParkedTensor { parked, layout } = tensor;
        layout.arrived(self.0.0.blocking().onboard(parked))
    }

    /// Reads a tensor, which stays parked.
    ///
    /// # Errors
    /// As [`TensorStore::read`].
    pub fn read(&self, tensor: &ParkedTensor) -> Result<Tensor, TensorError> {
        tensor
            .layout
            .over(self.0.0.blocking().read(&tensor.parked)?)
    }

    /// Waits until all that was accepted before is written or failed.
    pub fn synchronize(&self) {
        self.0.0.blocking().synchronize();
    }
}
