//! A named tensor as it travels.

use bytes::Bytes;

use crate::{
    DataType, ProtocolError, Shape, bytes_elements::check_bytes_elements, limits::MAX_NAME_BYTES,
};

/// A named, dense, row-major tensor in little-endian bytes.
///
/// Invariant: the bytes are exactly those that datatype and shape call for.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    name: String,
    datatype: DataType,
    shape: Shape,
    data: Bytes,
}

impl Tensor {
    /// Checks that `data` holds the elements of `shape` and wraps it without copying.
    ///
    /// # Errors
    /// An empty or overlong name, or data of another size than datatype and shape call for.
    pub fn new(
        name: impl Into<String>,
        datatype: DataType,
        shape: Shape,
        data: impl Into<Bytes>,
    ) -> Result<Self, ProtocolError> {
        let (name, data) = (name.into(), data.into());
        check_name("tensor name", &name)?;
        match shape.byte_size(datatype)? {
            Some(expected) if expected != data.len() as u64 => {
                return Err(ProtocolError::SizeMismatch {
                    tensor: name,
                    expected,
                    actual: data.len() as u64,
                });
            }
            Some(_) => {}
            None => {
                check_bytes_elements(&data, shape.elements()).map_err(|reason| {
                    ProtocolError::MalformedBytes {
                        tensor: name.clone(),
                        expected: shape.elements(),
                        reason,
                    }
                })?;
            }
        }
        Ok(Self {
            name,
            datatype,
            shape,
            data,
        })
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the element type.
    pub fn datatype(&self) -> DataType {
        self.datatype
    }

    /// Returns the dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the elements: little-endian, row-major, without padding.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Puts other memory with as many bytes of elements in the place of its own.
    ///
    /// # Panics
    /// If there are more bytes, or fewer.
    pub fn with_data(self, data: Bytes) -> Self {
        assert_eq!(data.len(), self.data.len(), "a tensor keeps its size");
        Self { data, ..self }
    }

    /// Takes the tensor apart.
    pub fn into_parts(self) -> (String, DataType, Shape, Bytes) {
        (self.name, self.datatype, self.shape, self.data)
    }
}

pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), ProtocolError> {
    if name.is_empty() {
        return Err(ProtocolError::Empty { what });
    }
    check_length(what, name)
}

pub(crate) fn check_length(what: &'static str, name: &str) -> Result<(), ProtocolError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(ProtocolError::NameTooLong {
            what,
            length: name.len(),
            limit: MAX_NAME_BYTES,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_must_fill_the_shape() {
        let shape = Shape::new(vec![2, 3]).unwrap();
        assert!(Tensor::new("x", DataType::Int16, shape.clone(), vec![0; 12]).is_ok());
        for wrong in [0, 11, 13] {
            assert_eq!(
                Tensor::new("x", DataType::Int16, shape.clone(), vec![0; wrong]),
                Err(ProtocolError::SizeMismatch {
                    tensor: "x".into(),
                    expected: 12,
                    actual: wrong as u64
                })
            );
        }
    }
}
