//! libtorch's tensors in the spill store: they go there by value, and come back over the memory that
//! the disk was read into, without a copy.
//!
//! Invariant: a tensor comes back with the shape, the kind and the bits that it was offloaded with.
//! Memory that anything else refers to is copied before, so a base may change while its view is
//! written, and is not touched itself.

use std::future::Future;

use bytes::Bytes;
use forebay_spill::{Class, Lost, Parked, Store};
use tch::{Device, Kind, TchError, Tensor};

use super::{TorchBytes, is_shared, tensor_over};
use crate::memory::HostBuf;

mod blocking;
mod error;
#[cfg(test)]
mod tests;

pub use blocking::BlockingTensors;
pub use error::{LostTensor, RefusedTensor, TensorError};

/// A [`Store`] that takes and gives tensors. Clones are handles of the same store.
///
/// It takes dense tensors in host memory, of every kind but the quantised ones. They come back
/// row-major and without a gradient.
#[derive(Debug, Clone)]
pub struct TensorStore(Store);

/// A tensor that the store has: on a disk, or on its way there. Dropping it gives its place back.
#[derive(Debug)]
pub struct ParkedTensor {
    parked: Parked,
    layout: Layout,
}

impl ParkedTensor {
    /// Returns its bytes in the store, with which one waits until it is written.
    pub fn parked(&self) -> &Parked {
        &self.parked
    }

    /// Returns its dimensions.
    pub fn dims(&self) -> &[i64] {
        &self.layout.dims
    }

    /// Returns the kind of its elements.
    pub fn kind(&self) -> Kind {
        self.layout.kind
    }
}

impl TensorStore {
    /// Takes tensors to `store`.
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// Returns the store of bytes beneath.
    pub fn store(&self) -> &Store {
        &self.0
    }

    /// Takes a tensor to be written; returns at once. Its memory goes when it is written.
    ///
    /// # Errors
    /// It is not dense or not in host memory, or the store refuses it. It comes back with the error.
    pub fn offload(&self, tensor: Tensor) -> Result<ParkedTensor, RefusedTensor> {
        let offloaded = dense(&tensor).and_then(|(layout, bytes)| {
            let parked = self.0.offload(bytes).map_err(|refused| refused.error)?;
            Ok(ParkedTensor { parked, layout })
        });
        offloaded.map_err(|error| RefusedTensor { error, tensor })
    }

    /// Takes tensors to be written, all at once, so that small ones share writes; returns at once.
    /// Each is accepted or refused for itself, as by [`offload`](Self::offload).
    pub fn offload_all(&self, tensors: Vec<Tensor>) -> Vec<Result<ParkedTensor, RefusedTensor>> {
        let mut all = Vec::with_capacity(tensors.len());
        let mut layouts = Vec::with_capacity(tensors.len());
        for tensor in &tensors {
            layouts.push(dense(tensor).map(|(layout, bytes)| {
                all.push(bytes.into());
                layout
            }));
        }
        let mut parked = self.0.offload_all(all).into_iter();
        let mut place = |layout| {
            let parked = parked.next().expect("there is an answer for each");
            let parked = parked.map_err(|refused| refused.error)?;
            Ok(ParkedTensor { parked, layout })
        };
        let offloaded = layouts
            .into_iter()
            .map(|layout| layout.and_then(&mut place));
        let back = |(tensor, offloaded): (Tensor, Result<_, _>)| {
            offloaded.map_err(|error| RefusedTensor { error, tensor })
        };
        tensors.into_iter().zip(offloaded).map(back).collect()
    }

    /// Brings a tensor back and frees its place. It starts at once.
    ///
    /// # Errors
    /// The disk failed or the tensor is damaged.
    ///
    /// # Cancel safety
    /// Dropping the future drops the tensor; what is in flight ends first.
    ///
    /// # Panics
    /// If the tensor is parked in another store.
    pub fn onboard(
        &self,
        tensor: ParkedTensor,
        class: Class,
    ) -> impl Future<Output = Result<Tensor, LostTensor>> + Send + use<> {
        let ParkedTensor { parked, layout } = tensor;
        let back = self.0.onboard(parked, class);
        async move { layout.arrived(back.await) }
    }

    /// Brings tensors back as [`onboard`](Self::onboard) does, in one go: neighbours on the disk
    /// share reads. The futures are in the order of the tensors.
    ///
    /// # Panics
    /// If a tensor is parked in another store.
    pub fn onboard_all(
        &self,
        tensors: Vec<ParkedTensor>,
        class: Class,
    ) -> Vec<impl Future<Output = Result<Tensor, LostTensor>> + Send + use<>> {
        let split = |tensor: ParkedTensor| (tensor.parked, tensor.layout);
        let (parked, layouts): (Vec<_>, Vec<_>) = tensors.into_iter().map(split).unzip();
        let back = self.0.onboard_all(parked, class);
        let arrive = |(back, layout): (_, Layout)| arrival(back, layout);
        back.into_iter().zip(layouts).map(arrive).collect()
    }

    /// Reads a tensor, which stays parked. It starts at once.
    ///
    /// # Errors
    /// The disk failed or the tensor is damaged.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// # Panics
    /// If the tensor is parked in another store.
    pub fn read<'a>(
        &self,
        tensor: &'a ParkedTensor,
        class: Class,
    ) -> impl Future<Output = Result<Tensor, TensorError>> + Send + use<'a> {
        let back = self.0.read(&tensor.parked, class);
        async move { tensor.layout.over(back.await?) }
    }

    /// Waits until all that was accepted before the call is written or failed.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub fn synchronize(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.synchronize()
    }

    /// Returns the same calls for threads that may sleep.
    pub fn blocking(&self) -> BlockingTensors<'_> {
        BlockingTensors(self)
    }
}

/// Waits for a tensor's bytes and makes it anew.
async fn arrival(
    back: impl Future<Output = Result<HostBuf, Lost>>,
    layout: Layout,
) -> Result<Tensor, LostTensor> {
    layout.arrived(back.await)
}

/// What makes bytes a tensor.
#[derive(Debug, Clone)]
struct Layout {
    dims: Vec<i64>,
    kind: Kind,
}

impl Layout {
    /// Makes the tensor over its bytes.
    fn over(&self, bytes: HostBuf) -> Result<Tensor, TensorError> {
        tensor_over(bytes, &self.dims, self.kind).map_err(TensorError::Rebuild)
    }

    /// Makes the tensor of what came back, or says where it is still.
    fn arrived(self, back: Result<HostBuf, Lost>) -> Result<Tensor, LostTensor> {
        match back {
            Ok(bytes) => self.over(bytes).map_err(|error| LostTensor {
                error,
                tensor: None,
            }),
            Err(Lost { error, parked }) => Err(LostTensor {
                error: error.into(),
                tensor: parked.map(|parked| ParkedTensor {
                    parked,
                    layout: self,
                }),
            }),
        }
    }
}

/// Returns the elements of a tensor, row-major in memory that nobody else writes to.
fn dense(tensor: &Tensor) -> Result<(Layout, Bytes), TensorError> {
    let kind = tensor.f_kind()?;
    if matches!(kind, Kind::QInt8 | Kind::QUInt8 | Kind::QInt32) {
        return Err(TensorError::Quantised(kind));
    }
    let device = tensor.device();
    if device != Device::Cpu {
        return Err(TensorError::Elsewhere(device));
    }
    if tensor.is_sparse() || tensor.is_mkldnn() {
        return Err(TensorError::NotDense);
    }
    let shared = is_shared(tensor);
    let elements = tensor.f_detach()?;
    // A view may be conjugate or negative by a mark only, which bytes do not keep.
    let elements = elements.f_resolve_conj()?.f_resolve_neg()?;
    let mut elements = elements.f_contiguous()?;
    if shared && elements.data_ptr() == tensor.data_ptr() {
        elements = copy(&elements)?;
    }
    let dims = elements.size();
    let bytes = Bytes::from_owner(TorchBytes::new(&elements)?);
    Ok((Layout { dims, kind }, bytes))
}

fn copy(tensor: &Tensor) -> Result<Tensor, TchError> {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}
