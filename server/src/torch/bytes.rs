//! The elements of a libtorch tensor as bytes.

use forebay_proto::DataType;
use tch::{Device, Kind, TchError, Tensor};

use super::ffi;

/// A contiguous CPU tensor, read as bytes. It keeps the tensor, and so its memory, alive.
#[derive(Debug)]
pub struct TorchBytes {
    tensor: Tensor,
    len: usize,
}

impl TorchBytes {
    /// Wraps `tensor`, copying only where its elements do not lie on the CPU one behind the other. Else it shares
    /// the tensor, which nobody may write to or resize from then on.
    ///
    /// # Errors
    /// libtorch's, where the copy fails.
    pub(crate) fn new(tensor: &Tensor) -> Result<Self, TchError> {
        if let Some(len) = ffi::dense_bytes(tensor) {
            let tensor = tensor.shallow_clone();
            return Ok(Self { tensor, len });
        }
        let tensor = tensor
            .f_detach()?
            .f_to_device(Device::Cpu)?
            .f_resolve_neg()?
            .f_contiguous()?;
        let len = ffi::dense_bytes(&tensor)
            .ok_or_else(|| TchError::Torch("the tensor's elements are not in memory".to_owned()))?;
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
