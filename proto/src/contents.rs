//! Typed tensor contents, turned into the raw form at the edge.

use bytes::Bytes;

use crate::{
    DataType, ProtocolError, bytes_elements::encode_bytes_elements, inference::InferTensorContents,
};

/// Turns the typed contents of `tensor` into raw little-endian bytes.
///
/// # Errors
/// Elements in another field than the datatype's.
pub(crate) fn to_raw(
    tensor: &str,
    datatype: DataType,
    contents: InferTensorContents,
) -> Result<Bytes, ProtocolError> {
    let used = used_fields(&contents);
    let (field, expected) = home(datatype);
    if field.is_none() || used.iter().any(|used| Some(*used) != field) {
        return Err(ProtocolError::WrongContents {
            tensor: tensor.to_owned(),
            datatype,
            expected,
        });
    }
    let raw = match datatype {
        DataType::Bool => contents.bool_contents.into_iter().map(u8::from).collect(),
        DataType::Int8 => low_bytes::<1, 4>(contents.int_contents.iter().map(|v| v.to_le_bytes())),
        DataType::Int16 => low_bytes::<2, 4>(contents.int_contents.iter().map(|v| v.to_le_bytes())),
        DataType::Int32 => low_bytes::<4, 4>(contents.int_contents.iter().map(|v| v.to_le_bytes())),
        DataType::Int64 => {
            low_bytes::<8, 8>(contents.int64_contents.iter().map(|v| v.to_le_bytes()))
        }
        DataType::Uint8 => {
            low_bytes::<1, 4>(contents.uint_contents.iter().map(|v| v.to_le_bytes()))
        }
        DataType::Uint16 => {
            low_bytes::<2, 4>(contents.uint_contents.iter().map(|v| v.to_le_bytes()))
        }
        DataType::Uint32 => {
            low_bytes::<4, 4>(contents.uint_contents.iter().map(|v| v.to_le_bytes()))
        }
        DataType::Uint64 => {
            low_bytes::<8, 8>(contents.uint64_contents.iter().map(|v| v.to_le_bytes()))
        }
        DataType::Fp32 => low_bytes::<4, 4>(contents.fp32_contents.iter().map(|v| v.to_le_bytes())),
        DataType::Fp64 => low_bytes::<8, 8>(contents.fp64_contents.iter().map(|v| v.to_le_bytes())),
        DataType::Bytes => return Ok(encode_bytes_elements(&contents.bytes_contents)),
        DataType::Fp16 | DataType::Bf16 => Vec::new(),
    };
    Ok(raw.into())
}

#[derive(Clone, Copy, PartialEq)]
enum Field {
    Bool,
    Int,
    Int64,
    Uint,
    Uint64,
    Fp32,
    Fp64,
    Bytes,
}

/// Returns where the elements of a datatype belong, and how to say so.
fn home(datatype: DataType) -> (Option<Field>, &'static str) {
    match datatype {
        DataType::Bool => (Some(Field::Bool), "in bool_contents"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => (Some(Field::Int), "in int_contents"),
        DataType::Int64 => (Some(Field::Int64), "in int64_contents"),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => {
            (Some(Field::Uint), "in uint_contents")
        }
        DataType::Uint64 => (Some(Field::Uint64), "in uint64_contents"),
        DataType::Fp32 => (Some(Field::Fp32), "in fp32_contents"),
        DataType::Fp64 => (Some(Field::Fp64), "in fp64_contents"),
        DataType::Bytes => (Some(Field::Bytes), "in bytes_contents"),
        DataType::Fp16 | DataType::Bf16 => (None, "in raw_input_contents only"),
    }
}

fn used_fields(contents: &InferTensorContents) -> Vec<Field> {
    [
        (Field::Bool, contents.bool_contents.is_empty()),
        (Field::Int, contents.int_contents.is_empty()),
        (Field::Int64, contents.int64_contents.is_empty()),
        (Field::Uint, contents.uint_contents.is_empty()),
        (Field::Uint64, contents.uint64_contents.is_empty()),
        (Field::Fp32, contents.fp32_contents.is_empty()),
        (Field::Fp64, contents.fp64_contents.is_empty()),
        (Field::Bytes, contents.bytes_contents.is_empty()),
    ]
    .into_iter()
    .filter_map(|(field, empty)| (!empty).then_some(field))
    .collect()
}

/// Keeps the `KEEP` low bytes of each little-endian value: the protocol widens small integers.
fn low_bytes<const KEEP: usize, const WIDE: usize>(
    values: impl Iterator<Item = [u8; WIDE]>,
) -> Vec<u8> {
    let mut raw = Vec::with_capacity(values.size_hint().0 * KEEP);
    for value in values {
        raw.extend_from_slice(&value[..KEEP]);
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_integers_keep_their_low_bytes() {
        let contents = InferTensorContents {
            int_contents: vec![-1, 258],
            ..Default::default()
        };
        assert_eq!(
            to_raw("x", DataType::Int8, contents.clone()).unwrap(),
            Bytes::from_static(&[0xff, 2])
        );
        assert_eq!(
            to_raw("x", DataType::Int16, contents).unwrap(),
            Bytes::from_static(&[0xff, 0xff, 2, 1])
        );
    }

    #[test]
    fn elements_in_a_foreign_field_are_refused() {
        let contents = InferTensorContents {
            fp32_contents: vec![1.0],
            ..Default::default()
        };
        let refused = |datatype| to_raw("x", datatype, contents.clone()).is_err();
        assert!(refused(DataType::Int32) && refused(DataType::Fp64) && refused(DataType::Fp16));
        assert!(!refused(DataType::Fp32));
    }
}
