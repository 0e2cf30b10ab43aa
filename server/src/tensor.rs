//! Tensors on their way through the executor: in host memory, or on an accelerator.

use bytes::Bytes;
use forebay_proto::{DataType, Shape, Tensor};

use crate::{
    memory::{HostBuf, Pool},
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

/// Copies an input whose elements are not aligned into a slab: a pass could not read it where it
/// lies, and the thread that received it has the time that those of passes have not. What takes
/// long is left to them all the same, for an async worker must not be held up.
pub fn aligned(input: Tensor, pool: &Pool) -> Tensor {
    /// Copying this much takes some 100 us.
    const MOST: usize = 1 << 20;
    let border = input.datatype().size().unwrap_or(1).max(1);
    let data = input.data();
    if data.len() > MOST || data.as_ptr().align_offset(border) == 0 {
        return input;
    }
    let mut slab = pool.lease(data.len());
    slab.copy_from_slice(data);
    input.with_data(Bytes::from_owner(slab))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An input of `len` bytes that begins `skew` bytes off a border.
    fn input(datatype: DataType, len: usize, skew: usize) -> Tensor {
        let size = datatype.size().unwrap_or(1);
        let memory: Vec<u8> = (0..=255).cycle().take(len + size + skew).collect();
        let start = memory.as_ptr().align_offset(size) + skew;
        let elements = i64::try_from(len / size).expect("a test's input is small");
        let data = Bytes::from(memory).slice(start..start + len);
        let shape = Shape::new(vec![elements]).expect("the shape is valid");
        Tensor::new("x", datatype, shape, data).expect("the tensor is valid")
    }

    #[test]
    fn an_input_is_copied_only_where_its_elements_are_not_aligned() {
        let pool = Pool::new(1 << 20);
        for (datatype, skew, copied) in [
            (DataType::Fp32, 0, false),
            (DataType::Fp32, 3, true),
            (DataType::Int64, 4, true),
            (DataType::Uint8, 1, false),
        ] {
            let received = input(datatype, 64, skew);
            let (before, content) = (received.data().as_ptr(), received.data().clone());
            let input = aligned(received, &pool);
            assert_eq!(input.data().as_ptr() != before, copied, "{datatype} {skew}");
            assert_eq!(input.data(), &content);
            let size = datatype.size().unwrap_or(1);
            assert_eq!(input.data().as_ptr().align_offset(size), 0);
        }
        assert_eq!(pool.usage().leased_bytes, 0, "the copies are returned");
    }

    #[test]
    fn what_takes_long_to_copy_is_left_to_the_pass() {
        let pool = Pool::new(1 << 20);
        let received = input(DataType::Fp32, (1 << 20) + 4, 1);
        let before = received.data().as_ptr();
        assert_eq!(aligned(received, &pool).data().as_ptr(), before);
    }
}
