//! Turns what `forward` returned into a model's outputs.

use bytes::Bytes;
use forebay_proto::{DataType, Shape};
use tch::{Device, TchError, Tensor};

use crate::{
    device::Location,
    model::{
        Error,
        schema::{all_places, indexed},
    },
    signature::TensorSpec,
    tensor::{HostData, HostTensor, Placed},
    torch::{self, DeviceTensor, Output, TorchBytes, datatype},
};

/// Makes each output of the configuration of the value at its place. An output whose memory the model kept
/// is copied, since its next call may write to it.
pub(super) fn collect(
    specs: &[TensorSpec],
    places: &[usize],
    values: &[Output],
) -> Result<Vec<Placed>, Error> {
    let mut outputs = Vec::with_capacity(specs.len());
    for (spec, &place) in specs.iter().zip(places) {
        outputs.push(match values.get(place) {
            Some(Output::Tensor(tensor)) => from_tensor(spec, tensor)?,
            Some(Output::Texts { count, elements }) => {
                Placed::Host(from_texts(spec, *count, elements)?)
            }
            Some(Output::Other) => return Err(mismatch(spec, "no tensor", "a tensor")),
            None => return Err(mismatch(spec, "absent", "a tensor")),
        });
    }
    Ok(outputs)
}

/// Returns each output's place among the values: by `__<index>` where all names have one, else by order.
pub(super) fn places(specs: &[TensorSpec]) -> Vec<usize> {
    all_places(specs, indexed).unwrap_or_else(|| (0..specs.len()).collect())
}

/// Makes the output `spec` of `tensor`.
pub(in crate::model) fn from_tensor(spec: &TensorSpec, tensor: &Tensor) -> Result<Placed, Error> {
    let failed = |error: TchError| Error::thrown(&error.to_string(), Location::Host);
    let kind = tensor.f_kind().map_err(failed)?;
    let Some(datatype) = datatype(kind).filter(|datatype| *datatype == spec.datatype) else {
        return Err(mismatch(spec, &format!("{kind:?}"), spec.datatype.name()));
    };
    if tensor.device() != Device::Cpu {
        return on_device(spec, tensor);
    }
    let shape =
        Shape::new(tensor.size()).map_err(|error| mismatch(spec, &error.to_string(), "a shape"))?;
    let bytes = if torch::is_shared(tensor) {
        TorchBytes::new(&tensor.f_detach_copy().map_err(failed)?)
    } else {
        TorchBytes::new(tensor)
    };
    Ok(Placed::Host(HostTensor {
        datatype,
        shape,
        data: HostData::Torch(bytes.map_err(failed)?),
    }))
}

/// As on the host: dense, and copied where the model kept the memory. Both are enqueued.
fn on_device(spec: &TensorSpec, tensor: &Tensor) -> Result<Placed, Error> {
    let place = match tensor.device() {
        // Accelerators that are not CUDA's have no number here; only the kind of place matters.
        Device::Cuda(index) => Location::Accelerator(u32::try_from(index).unwrap_or_default()),
        _ => Location::Accelerator(0),
    };
    let failed = |error: TchError| Error::thrown(&error.to_string(), place);
    let tensor = if torch::is_shared(tensor) {
        tensor.f_detach_copy().map_err(failed)?
    } else {
        tensor.f_detach().map_err(failed)?
    };
    let tensor = tensor.f_contiguous().map_err(failed)?;
    DeviceTensor::new(tensor)
        .map(Placed::Device)
        .map_err(|actual| mismatch(spec, &actual, spec.datatype.name()))
}

fn from_texts(spec: &TensorSpec, count: usize, elements: &Bytes) -> Result<HostTensor, Error> {
    if spec.datatype != DataType::Bytes {
        return Err(mismatch(spec, "a List[str]", spec.datatype.name()));
    }
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let shape =
        Shape::new(vec![count]).map_err(|error| mismatch(spec, &error.to_string(), "a shape"))?;
    Ok(HostTensor {
        datatype: DataType::Bytes,
        shape,
        data: HostData::Wire(elements.clone()),
    })
}

fn mismatch(spec: &TensorSpec, actual: &str, expected: &str) -> Error {
    Error::Output {
        name: spec.name.clone(),
        actual: actual.to_owned(),
        expected: expected.to_owned(),
    }
}
