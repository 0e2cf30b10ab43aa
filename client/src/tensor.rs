//! Makes tensors from Rust values, and Rust values from tensors.
//!
//! Tensors are little-endian on the wire, whatever the machine.

use bytes::{Bytes, BytesMut};
use forebay_proto::{BytesElements, DataType, ProtocolError, Shape, Tensor, encode_bytes_elements};

/// A tensor has another datatype than asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tensor '{tensor}' has datatype {actual}, not {expected}; read it as what it is")]
pub struct WrongDataType {
    /// The tensor.
    pub tensor: String,
    /// The datatype asked for.
    pub expected: DataType,
    /// The datatype it has.
    pub actual: DataType,
}

/// A Rust type whose values are elements of a tensor.
pub trait Element: Copy + sealed::Sealed {
    /// The datatype of such a tensor.
    const DATATYPE: DataType;
}

/// Makes a tensor of `values`, in row-major order.
///
/// # Errors
/// An empty name, or another number of values than `shape` calls for.
pub fn from_slice<T: Element>(
    name: impl Into<String>,
    values: &[T],
    shape: impl Into<Vec<i64>>,
) -> Result<Tensor, ProtocolError> {
    let mut data = BytesMut::with_capacity(size_of_val(values));
    for value in values {
        value.put(&mut data);
    }
    Tensor::new(name, T::DATATYPE, Shape::new(shape.into())?, data.freeze())
}

/// Makes a BYTES tensor of `values`, in row-major order.
///
/// # Errors
/// As [`from_slice`].
pub fn from_strings<T: AsRef<[u8]>>(
    name: impl Into<String>,
    values: &[T],
    shape: impl Into<Vec<i64>>,
) -> Result<Tensor, ProtocolError> {
    let shape = Shape::new(shape.into())?;
    Tensor::new(name, DataType::Bytes, shape, encode_bytes_elements(values))
}

/// Returns the elements of `tensor`, in row-major order.
///
/// # Errors
/// The tensor's elements are not `T`s.
pub fn to_vec<T: Element>(tensor: &Tensor) -> Result<Vec<T>, WrongDataType> {
    check(tensor, T::DATATYPE)?;
    Ok(T::read(tensor.data()))
}

/// Returns the elements of a BYTES `tensor`, in row-major order, without copying them.
///
/// # Errors
/// The tensor's elements are not byte strings.
pub fn to_strings(tensor: &Tensor) -> Result<Vec<Bytes>, WrongDataType> {
    check(tensor, DataType::Bytes)?;
    Ok(BytesElements::new(tensor.data().clone()).collect())
}

fn check(tensor: &Tensor, expected: DataType) -> Result<(), WrongDataType> {
    let actual = tensor.datatype();
    if actual == expected {
        return Ok(());
    }
    Err(WrongDataType {
        tensor: tensor.name().to_owned(),
        expected,
        actual,
    })
}

mod sealed {
    use bytes::BytesMut;

    pub trait Sealed: Sized {
        fn put(self, data: &mut BytesMut);
        fn read(data: &[u8]) -> Vec<Self>;
    }
}

macro_rules! numbers {
    ($($number:ty => $datatype:ident),* $(,)?) => {$(
        impl Element for $number {
            const DATATYPE: DataType = DataType::$datatype;
        }

        impl sealed::Sealed for $number {
            fn put(self, data: &mut BytesMut) {
                data.extend_from_slice(&self.to_le_bytes());
            }

            fn read(data: &[u8]) -> Vec<Self> {
                let (values, _rest) = data.as_chunks();
                values.iter().copied().map(Self::from_le_bytes).collect()
            }
        }
    )*};
}

numbers! {
    f32 => Fp32, f64 => Fp64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
}

impl Element for bool {
    const DATATYPE: DataType = DataType::Bool;
}

impl sealed::Sealed for bool {
    fn put(self, data: &mut BytesMut) {
        data.extend_from_slice(&[u8::from(self)]);
    }

    fn read(data: &[u8]) -> Vec<Self> {
        data.iter().map(|&byte| byte != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_round_trip() {
        let floats = [0.5f32, -1.0, f32::MAX, 0.0];
        let tensor = from_slice("x", &floats, [2, 2]).unwrap();
        assert_eq!(tensor.data()[..4], [0, 0, 0, 0x3f]);
        assert_eq!(to_vec::<f32>(&tensor).unwrap(), floats);

        let tensor = from_slice("x", &[true, false], [2]).unwrap();
        assert_eq!(to_vec::<bool>(&tensor).unwrap(), [true, false]);

        let tensor = from_slice("x", &[i64::MIN], []).unwrap();
        assert_eq!(to_vec::<i64>(&tensor).unwrap(), [i64::MIN]);

        let tensor = from_strings("x", &["a", ""], [2]).unwrap();
        assert_eq!(to_strings(&tensor).unwrap(), ["a", ""]);
    }

    #[test]
    fn elements_of_another_type_are_refused() {
        let tensor = from_slice("x", &[1u8], [1]).unwrap();
        let error = to_vec::<i8>(&tensor).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tensor 'x' has datatype UINT8, not INT8; read it as what it is"
        );
        assert!(to_strings(&tensor).is_err());
    }

    #[test]
    fn values_must_fill_the_shape() {
        assert!(from_slice("x", &[1.0f32], [2]).is_err());
        assert!(from_strings("x", &["a"], [2]).is_err());
    }
}
