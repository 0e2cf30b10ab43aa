//! Made-up tensors: what a model is tried and warmed up with where nobody says with what.

use forebay_proto::{DataType, Shape};

use super::Error;
use crate::{
    signature::TensorSpec,
    tensor::{HostData, HostTensor},
};

/// Size of made-up tensors in dimensions that the configuration leaves open.
const OPEN_DIMENSION: i64 = 2;

/// What made-up elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    /// Zeros.
    Zeros,
    /// Numbers from 0 to 1 that are not all the same; zeros where they may be indices.
    Mixed,
    /// Random numbers from 0 to 1, the same in each run.
    Random,
}

/// Returns the dimensions of `spec`, as the model sees them, with sizes for those that are open.
pub(crate) fn dims(spec: &TensorSpec) -> Vec<i64> {
    let open = |&dim: &i64| if dim < 0 { OPEN_DIMENSION } else { dim };
    spec.model_dims().iter().map(open).collect()
}

/// Makes up a tensor of `batch` rows, which are alike, or one without a batch dimension.
///
/// # Errors
/// It would be too large.
pub(crate) fn tensor(spec: &TensorSpec, batch: Option<i64>) -> Result<HostTensor, Error> {
    let wrong = |reason: String| Error::Input {
        name: spec.name.clone(),
        reason,
    };
    let item = Shape::new(dims(spec)).map_err(|error| wrong(error.to_string()))?;
    let elements = usize::try_from(item.elements()).map_err(|error| wrong(error.to_string()))?;
    let shape = batch.into_iter().chain(item.dims().iter().copied());
    let shape = Shape::new(shape.collect()).map_err(|error| wrong(error.to_string()))?;
    let rows = batch.map_or(1, |batch| usize::try_from(batch).unwrap_or(1));
    let data = elements_of(spec.datatype, elements, Values::Mixed).repeat(rows);
    Ok(HostTensor {
        datatype: spec.datatype,
        shape,
        data: HostData::Wire(data.into()),
    })
}

/// Makes up the bytes of `count` elements. Texts are empty.
pub(crate) fn elements_of(datatype: DataType, count: usize, values: Values) -> Vec<u8> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut quarters = |index: usize| -> u8 {
        let number = match values {
            Values::Zeros => 0,
            Values::Mixed => index as u64 % 5,
            Values::Random => {
                // Xorshift.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % 5
            }
        };
        u8::try_from(number).unwrap_or(0)
    };
    let mut data = Vec::new();
    for index in 0..count {
        let quarters = quarters(index);
        // Quarters are exact in every floating-point type.
        let value = f32::from(quarters) / 4.0;
        match datatype {
            DataType::Fp32 => data.extend(value.to_le_bytes()),
            DataType::Fp64 => data.extend(f64::from(value).to_le_bytes()),
            DataType::Bf16 => data.extend(&value.to_le_bytes()[2..]),
            DataType::Fp16 => data.extend(half(quarters).to_le_bytes()),
            DataType::Bytes => data.extend(0u32.to_le_bytes()),
            other => {
                let one = values == Values::Random && quarters > 2;
                data.push(u8::from(one));
                data.resize(data.len() + other.size().unwrap_or(1) - 1, 0);
            }
        }
    }
    data
}

/// Returns `quarters` / 4 as the bits of a half-precision number.
fn half(quarters: u8) -> u16 {
    [0x0000, 0x3400, 0x3800, 0x3a00, 0x3c00][usize::from(quarters)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_numbers_from_0_to_1_in_every_type() {
        for datatype in DataType::ALL {
            for values in [Values::Zeros, Values::Mixed, Values::Random] {
                let data = elements_of(datatype, 50, values);
                assert_eq!(data.len(), 50 * datatype.size().unwrap_or(4), "{datatype}");
                let zeros = data.iter().all(|&byte| byte == 0);
                let numbers = values == Values::Random && datatype != DataType::Bytes;
                assert!(!numbers || !zeros, "{datatype}");
            }
        }
        let random = elements_of(DataType::Fp32, 50, Values::Random);
        for bytes in random.as_chunks::<4>().0 {
            assert!((0.0..=1.0).contains(&f32::from_le_bytes(*bytes)));
        }
    }
}
