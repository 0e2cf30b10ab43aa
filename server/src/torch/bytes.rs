//! The elements of a libtorch tensor as bytes.

use forebay_proto::DataType;
use tch::{Device, Kind, Tensor};

use super::ffi;

/// A contiguous CPU tensor, read as bytes. It keeps the tensor, and so its memory, alive.
#[derive(Debug)]
pub struct TorchBytes {
    tensor: Tensor,
    len: usize,
}

impl TorchBytes {
    /// Wraps `tensor`, copying only where it is not contiguous or not on the CPU.
    ///
    /// # Errors
    /// libtorch's, where the copy fails.
    pub(crate) fn new(tensor: &Tensor) -> Result<Self, tch::TchError> {
        let tensor = tensor
            .f_to_device(Device::Cpu)?
            .f_contiguous()?
            .f_detach()?;
        let len = tensor.numel() * tensor.f_kind()?.elt_size_in_bytes();
        Ok(Self { tensor, len })
    }
}

impl AsRef<[u8]> for TorchBytes {
    fn as_ref(&self) -> &[u8] {
        ffi::tensor_bytes(&self.tensor, self.len)
    }
}

/// Returns libtorch's name of a datatype, or `None` where TorchScript has no such tensors.
pub(crate) fn kind(datatype: DataType) -> Option<Kind> {
    Some(match datatype {
        DataType::Bool => Kind::Bool,
        DataType::Uint8 => Kind::Uint8,
        DataType::Int8 => Kind::Int8,
        DataType::Int16 => Kind::Int16,
        DataType::Int32 => Kind::Int,
        DataType::Int64 => Kind::Int64,
        DataType::Fp16 => Kind::Half,
        DataType::Fp32 => Kind::Float,
        DataType::Fp64 => Kind::Double,
        DataType::Bf16 => Kind::BFloat16,
        DataType::Uint16 | DataType::Uint32 | DataType::Uint64 | DataType::Bytes => return None,
    })
}

/// Returns the datatype of a libtorch kind, or `None` where the protocol has none.
pub(crate) fn datatype(of: Kind) -> Option<DataType> {
    DataType::ALL
        .into_iter()
        .find(|&datatype| kind(datatype) == Some(of))
}
