//! Tensors on their way through the executor: in host memory, or on an accelerator.

use bytes::Bytes;
use forebay_proto::{DataType, Shape};

use crate::{
    memory::HostBuf,
    torch::{DeviceTensor, TorchBytes},
};

/// A dense, row-major tensor in host memory.
///
/// Invariant: the data has the bytes that datatype and shape call for.
#[derive(Debug)]
pub struct HostTensor {
    /// Element type.
    pub datatype: DataType,
    /// Dimensions, with the batch dimension where the model batches.
    pub shape: Shape,
    /// The elements.
    pub data: HostData,
}

/// A tensor of a forward pass, in the memory where the pass reads or leaves it.
#[derive(Debug)]
pub enum Placed {
    /// In host memory.
    Host(HostTensor),
    /// In the memory of the accelerator that the pass runs on.
    Device(DeviceTensor),
}

impl Placed {
    /// Returns the tensor where it lies in host memory.
    pub fn into_host(self) -> Option<HostTensor> {
        match self {
            Self::Host(tensor) => Some(tensor),
            Self::Device(_) => None,
        }
    }
}

impl From<HostTensor> for Placed {
    fn from(tensor: HostTensor) -> Self {
        Self::Host(tensor)
    }
}

/// Where the elements of a [`HostTensor`] lie.
#[derive(Debug)]
pub enum HostData {
    /// In the received message, at any alignment. No one else reads this part of it.
    Wire(Bytes),
    /// In a slab of the pool.
    Slab(HostBuf),
    /// In memory of libtorch's.
    Torch(TorchBytes),
}

impl AsRef<[u8]> for HostData {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Wire(bytes) => bytes,
            Self::Slab(buf) => buf,
            Self::Torch(bytes) => bytes.as_ref(),
        }
    }
}

impl HostData {
    /// Hands the elements over as `Bytes` without copying; `keep` is dropped with the last of them.
    pub fn into_bytes<K: Send + 'static>(self, keep: K) -> Bytes {
        struct Owner<K> {
            data: HostData,
            _keep: K,
        }
        impl<K> AsRef<[u8]> for Owner<K> {
            fn as_ref(&self) -> &[u8] {
                self.data.as_ref()
            }
        }
        Bytes::from_owner(Owner {
            data: self,
            _keep: keep,
        })
    }
}
