//! Finds out whether a model may be frozen: the frozen form must answer a probe as the saved one
//! does.

use forebay_proto::{DataType, Shape};

use super::{Plan, load};
use crate::{
    device::Location,
    model::Error,
    signature::TensorSpec,
    tensor::{HostData, HostTensor, Placed},
    torch::{Form, Module},
};

/// Size of the probe in dimensions that the configuration leaves open.
const OPEN_DIMENSION: i64 = 2;

/// Largest relative difference of an output, against the largest value in it. Freezing joins
/// operations, which rounds in other places.
const TOLERANCE: f64 = 1e-3;

/// Returns the frozen form if it answers as `saved` does, else the saved form.
pub(super) fn choose(plan: &Plan, saved: Module) -> Form {
    match agree(plan, saved) {
        Ok(true) => Form::Frozen,
        Ok(false) => {
            tracing::warn!(file = %plan.file.display(), "the frozen model answers otherwise than the saved one, which is served");
            Form::Saved
        }
        Err(error) => {
            tracing::info!(file = %plan.file.display(), %error, "the model is not frozen: it does not take a made-up request to check it by");
            Form::Saved
        }
    }
}

fn agree(plan: &Plan, mut saved: Module) -> Result<bool, Error> {
    let expected = plan.forward(&mut saved, request(plan)?, Location::Host)?;
    drop(saved);
    let mut frozen = load(&plan.file, Form::Frozen, Location::Host)?;
    // Twice: an optimized graph is specialised by its first call.
    plan.forward(&mut frozen, request(plan)?, Location::Host)?;
    if plan.settings.stateful {
        frozen = load(&plan.file, Form::Frozen, Location::Host)?;
    }
    let actual = plan.forward(&mut frozen, request(plan)?, Location::Host)?;
    Ok(expected.len() == actual.len()
        && expected
            .iter()
            .zip(&actual)
            .all(|(expected, actual)| close(expected, actual)))
}

/// Makes up a request: small numbers that are not all the same.
fn request(plan: &Plan) -> Result<Vec<Option<Placed>>, Error> {
    let batch = plan.signature.is_batching().then_some(1);
    plan.signature
        .inputs
        .iter()
        .map(|spec| Ok(Some(Placed::Host(tensor(spec, batch)?))))
        .collect()
}

fn tensor(spec: &TensorSpec, batch: Option<i64>) -> Result<HostTensor, Error> {
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

fn close(expected: &Placed, actual: &Placed) -> bool {
    let (Placed::Host(expected), Placed::Host(actual)) = (expected, actual) else {
        return false;
    };
    if expected.shape != actual.shape || expected.datatype != actual.datatype {
        return false;
    }
    let (a, b) = (expected.data.as_ref(), actual.data.as_ref());
    match expected.datatype {
        DataType::Fp32 => near(
            numbers(a, f32::from_le_bytes),
            numbers(b, f32::from_le_bytes),
        ),
        DataType::Fp64 => near(
            numbers(a, f64::from_le_bytes),
            numbers(b, f64::from_le_bytes),
        ),
        // Other floating-point types have too few digits for a tolerance to mean much.
        _ => a == b,
    }
}

fn numbers<const SIZE: usize, T: Into<f64>>(
    bytes: &[u8],
    read: impl Fn([u8; SIZE]) -> T,
) -> Vec<f64> {
    bytes
        .as_chunks::<SIZE>()
        .0
        .iter()
        .map(|chunk| read(*chunk).into())
        .collect()
}

fn near(expected: Vec<f64>, actual: Vec<f64>) -> bool {
    let largest = expected
        .iter()
        .fold(0.0f64, |largest, value| largest.max(value.abs()));
    expected.iter().zip(actual).all(|(expected, actual)| {
        let same = expected.total_cmp(&actual).is_eq();
        same || (expected - actual).abs() <= TOLERANCE * largest
    })
}
