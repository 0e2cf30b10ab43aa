//! Turns a request's tensors into the arguments of `forward`.

use forebay_proto::BytesElements;
use tch::{TchError, Tensor};

use crate::{
    memory::Pool,
    model::{Argument, ArgumentKind, Error, concise},
    tensor::{HostData, HostTensor, Placed},
    torch::{self, kind},
};

/// Makes the value of `argument` from `tensor`.
pub(super) fn fill(
    argument: &Argument,
    tensor: Placed,
    pool: &Pool,
) -> Result<torch::Argument, Error> {
    let wrong = |reason: String| Error::Input {
        name: argument.name.clone(),
        reason,
    };
    let tensor = match (tensor, argument.kind) {
        (Placed::Host(tensor), _) => tensor,
        (Placed::Device(tensor), ArgumentKind::Tensor) => {
            return Ok(torch::Argument::Tensor(tensor.into_tensor()));
        }
        (Placed::Device(_), _) => {
            return Err(wrong(
                "is on the device, but is read on the host".to_owned(),
            ));
        }
    };
    match argument.kind {
        ArgumentKind::Tensor => lend(tensor, pool)
            .map(torch::Argument::Tensor)
            .map_err(wrong),
        ArgumentKind::Strings => texts(tensor).map_err(wrong),
        ArgumentKind::Int | ArgumentKind::Float | ArgumentKind::Bool => {
            if tensor.shape.elements() != 1 {
                return Err(wrong(format!(
                    "has {} elements, but the model takes a single number there",
                    tensor.shape.elements()
                )));
            }
            let scalar = lend(tensor, pool).map_err(wrong)?;
            number(argument.kind, &scalar).map_err(|error| wrong(concise(&error.to_string())))
        }
    }
}

/// Gives a tensor's memory to libtorch; copies it only where it is not aligned.
pub(in crate::model) fn lend(tensor: HostTensor, pool: &Pool) -> Result<Tensor, String> {
    let HostTensor {
        datatype,
        shape,
        data,
    } = tensor;
    let kind = kind(datatype).ok_or_else(|| format!("is {datatype}, which TorchScript has not"))?;
    let data = match data {
        HostData::Wire(bytes) if bytes.as_ptr().align_offset(kind.elt_size_in_bytes()) != 0 => {
            let mut slab = pool.lease(bytes.len());
            slab.copy_from_slice(&bytes);
            HostData::Slab(slab)
        }
        data => data,
    };
    torch::tensor_over(data, shape.dims(), kind)
}

fn number(kind: ArgumentKind, scalar: &Tensor) -> Result<torch::Argument, TchError> {
    let origin = &[0; 32][..scalar.dim()];
    Ok(match kind {
        ArgumentKind::Float => torch::Argument::Float(scalar.f_double_value(origin)?),
        ArgumentKind::Bool => torch::Argument::Bool(scalar.f_int64_value(origin)? != 0),
        _ => torch::Argument::Int(scalar.f_int64_value(origin)?),
    })
}

fn texts(tensor: HostTensor) -> Result<torch::Argument, String> {
    let elements = tensor.data.into_bytes(());
    let mut count = 0;
    for element in BytesElements::new(elements.clone()) {
        count += 1;
        if std::str::from_utf8(&element).is_err() {
            return Err("holds an element that is not UTF-8, which a List[str] cannot".to_owned());
        }
    }
    Ok(torch::Argument::Texts { count, elements })
}
