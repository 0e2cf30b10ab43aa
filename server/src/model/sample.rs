//! Made-up tensors: what a model is tried and warmed up with where nobody says with what.

use forebay_proto::{DataType, Shape};

use super::Error;
use crate::{
    signature::TensorSpec,
    tensor::{HostData, HostTensor},
};

/// Size of made-up tensors in dimensions that the configuration leaves open.
const OPEN_DIMENSION: i64 = 2;

/// Makes up a tensor of `batch` rows, or one without a batch dimension: small numbers that are not
/// all the same, zeros where they may be indices, and empty texts.
///
/// # Errors
/// It would be too large.
pub(crate) fn tensor(spec: &TensorSpec, batch: Option<i64>) -> Result<HostTensor, Error> {
    let open = |dim: &i64| if *dim < 0 { OPEN_DIMENSION } else { *dim };
    let dims = batch
        .into_iter()
        .chain(spec.dims.iter().map(open))
        .collect();
    let wrong = |reason: String| Error::Input {
        name: spec.name.clone(),
        reason,
    };
    let shape = Shape::new(dims).map_err(|error| wrong(error.to_string()))?;
    let elements = usize::try_from(shape.elements()).map_err(|error| wrong(error.to_string()))?;
    // Quarters from 0 to 1 are exact in every floating-point type.
    let quarter = |index: usize| u8::try_from(index % 5).unwrap_or(0);
    let mut data = Vec::new();
    for index in 0..elements {
        let value = f32::from(quarter(index)) / 4.0;
        match spec.datatype {
            DataType::Fp32 => data.extend(value.to_le_bytes()),
            DataType::Fp64 => data.extend(f64::from(value).to_le_bytes()),
            DataType::Bf16 => data.extend(&value.to_le_bytes()[2..]),
            DataType::Fp16 => data.extend(half(quarter(index)).to_le_bytes()),
            DataType::Bytes => data.extend(0u32.to_le_bytes()),
            other => data.resize(data.len() + other.size().unwrap_or(1), 0),
        }
    }
    Ok(HostTensor {
        datatype: spec.datatype,
        shape,
        data: HostData::Wire(data.into()),
    })
}

/// Returns `quarters` / 4 as the bits of a half-precision number.
fn half(quarters: u8) -> u16 {
    [0x0000, 0x3400, 0x3800, 0x3a00, 0x3c00][usize::from(quarters)]
}
