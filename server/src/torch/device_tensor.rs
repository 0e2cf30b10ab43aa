//! A tensor in the memory of an accelerator.

use forebay_proto::{DataType, Shape};
use tch::Tensor;

use super::datatype;

/// A libtorch tensor that lies on an accelerator, with its datatype and shape in the protocol's
/// terms. Its elements may still be on their way: streams and events tell.
#[derive(Debug)]
pub struct DeviceTensor {
    tensor: Tensor,
    datatype: DataType,
    shape: Shape,
}

impl DeviceTensor {
    /// Wraps `tensor`.
    ///
    /// # Errors
    /// The protocol has no such datatype or shape; the text says which.
    pub(crate) fn new(tensor: Tensor) -> Result<Self, String> {
        let kind = tensor.f_kind().map_err(|error| error.to_string())?;
        let datatype =
            datatype(kind).ok_or_else(|| format!("{kind:?}, which the protocol has not"))?;
        let shape = Shape::new(tensor.size()).map_err(|error| error.to_string())?;
        Ok(Self {
            tensor,
            datatype,
            shape,
        })
    }

    /// Returns the element type.
    pub fn datatype(&self) -> DataType {
        self.datatype
    }

    /// Returns the dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns how many bytes the elements take.
    pub fn bytes(&self) -> usize {
        let elements = usize::try_from(self.shape.elements()).unwrap_or(usize::MAX);
        elements.saturating_mul(self.datatype.size().unwrap_or(0))
    }

    /// Lends libtorch's tensor.
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Returns another owner of the same memory.
    pub(crate) fn share(&self) -> Self {
        Self {
            tensor: self.tensor.shallow_clone(),
            datatype: self.datatype,
            shape: self.shape.clone(),
        }
    }

    /// Hands libtorch's tensor over.
    pub(crate) fn into_tensor(self) -> Tensor {
        self.tensor
    }
}
