//! TorchScript models, run by libtorch through tch.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::Arc,
};

use forebay_proto::{BytesElements, DataType, Shape, encode_bytes_elements};
use tch::{CModule, IValue, TchError, Tensor};

use super::{
    Argument, ArgumentKind, Error, Instance, Model, Schema, concise,
    schema::{all_places, indexed},
};
use crate::{
    memory::Pool,
    signature::{Signature, TensorSpec},
    tensor::{HostData, HostTensor},
    torch::{self, TorchBytes, datatype, kind},
};

/// A TorchScript file and how a configuration's tensors map to its `forward`.
#[derive(Debug, Clone)]
pub struct TorchScript {
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    file: PathBuf,
    signature: Signature,
    schema: Schema,
    /// For each argument the input that fills it.
    inputs: Vec<Option<usize>>,
    settings: Settings,
    pool: Pool,
}

/// How instances run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Threads within one operation; libtorch keeps this number for each calling thread.
    pub intra_op_threads: usize,
    /// Whether the model keeps state between calls, so that outputs may alias it.
    pub stateful: bool,
}

impl TorchScript {
    /// Loads `file` once, and checks that its `forward` fits `signature`.
    ///
    /// # Errors
    /// The file does not load, or does not fit; the text says what to change.
    pub fn load(
        file: &Path,
        signature: Signature,
        settings: Settings,
        pool: Pool,
    ) -> Result<Self, Error> {
        let schema = Schema::read(file)?;
        let inputs = schema.map(&signature.inputs)?;
        for (argument, input) in schema.arguments.iter().zip(&inputs) {
            if let Some(input) = input {
                check_argument(
                    argument,
                    &signature.inputs[*input],
                    signature.max_batch_size,
                )?;
            }
        }
        for spec in &signature.outputs {
            if kind(spec.datatype).is_none() && spec.datatype != DataType::Bytes {
                return Err(no_such_tensors(spec));
            }
        }
        Ok(Self {
            plan: Arc::new(Plan {
                file: file.to_owned(),
                signature,
                schema,
                inputs,
                settings,
                pool,
            }),
        })
    }
}

fn no_such_tensors(spec: &TensorSpec) -> Error {
    Error::Mismatch(format!(
        "tensor '{}' is {}, which TorchScript does not have; choose another data_type",
        spec.name, spec.datatype
    ))
}

fn check_argument(argument: &Argument, spec: &TensorSpec, batch: usize) -> Result<(), Error> {
    let scalar = !matches!(argument.kind, ArgumentKind::Tensor | ArgumentKind::Strings);
    let wrong = |needs: &str| {
        Err(Error::Mismatch(format!(
            "input '{}' fills argument '{}' of the model, which needs {needs}",
            spec.name, argument.name
        )))
    };
    match argument.kind {
        ArgumentKind::Strings if spec.datatype != DataType::Bytes => {
            wrong("data_type TYPE_STRING, because it is a List[str]")
        }
        ArgumentKind::Strings => Ok(()),
        _ if kind(spec.datatype).is_none() => Err(no_such_tensors(spec)),
        _ if scalar && batch > 0 => {
            wrong("max_batch_size: 0, because a number can't be joined to a batch")
        }
        _ if scalar && spec.dims.iter().any(|&dim| dim > 1) => {
            wrong("dims: [ 1 ], because it is a single number")
        }
        _ => Ok(()),
    }
}

impl Model for TorchScript {
    fn instance(&self) -> Result<Box<dyn Instance>, Error> {
        let module = self.plan.module()?;
        Ok(Box::new(Loaded {
            plan: Arc::clone(&self.plan),
            module,
        }))
    }
}

impl Plan {
    fn module(&self) -> Result<CModule, Error> {
        let load = || {
            let mut module = CModule::load(&self.file)?;
            module.f_set_eval()?;
            Ok(module)
        };
        load().map_err(|error: TchError| Error::Load {
            file: self.file.display().to_string(),
            reason: concise(&error.to_string()),
        })
    }

    fn argument(&self, argument: &Argument, tensor: HostTensor) -> Result<IValue, Error> {
        let wrong = |reason: String| Error::Input {
            name: argument.name.clone(),
            reason,
        };
        match argument.kind {
            ArgumentKind::Tensor => self.tensor(tensor).map(IValue::Tensor).map_err(wrong),
            ArgumentKind::Strings => strings(tensor).map(IValue::StringList).map_err(wrong),
            ArgumentKind::Int | ArgumentKind::Float | ArgumentKind::Bool => {
                if tensor.shape.elements() != 1 {
                    return Err(wrong(format!(
                        "has {} elements, but the model takes a single number there",
                        tensor.shape.elements()
                    )));
                }
                let scalar = self.tensor(tensor).map_err(wrong)?;
                scalar_value(argument.kind, &scalar)
                    .map_err(|error| wrong(concise(&error.to_string())))
            }
        }
    }

    /// Gives a tensor's memory to libtorch; copies it only where it is not aligned.
    fn tensor(&self, tensor: HostTensor) -> Result<Tensor, String> {
        let HostTensor {
            datatype,
            shape,
            data,
        } = tensor;
        let kind =
            kind(datatype).ok_or_else(|| format!("is {datatype}, which TorchScript has not"))?;
        let data = match data {
            HostData::Wire(bytes) if bytes.as_ptr().align_offset(kind.elt_size_in_bytes()) != 0 => {
                let mut slab = self.pool.lease(bytes.len());
                slab.copy_from_slice(&bytes);
                HostData::Slab(slab)
            }
            data => data,
        };
        torch::tensor_over(data, shape.dims(), kind)
    }

    fn outputs(&self, value: IValue) -> Result<Vec<HostTensor>, Error> {
        let values = match value {
            // Lists of texts come back as lists of anything.
            IValue::GenericList(values) if texts(&values).is_some() => {
                vec![IValue::StringList(texts(&values).unwrap_or_default())]
            }
            IValue::Tuple(values) | IValue::GenericList(values) => values,
            IValue::TensorList(tensors) => tensors.into_iter().map(IValue::Tensor).collect(),
            value => vec![value],
        };
        let specs = &self.signature.outputs;
        let places = output_places(specs);
        specs
            .iter()
            .zip(places)
            .map(|(spec, place)| match values.get(place) {
                Some(IValue::Tensor(tensor)) => self.output(spec, tensor),
                Some(IValue::StringList(texts)) => string_output(spec, texts),
                other => Err(mismatch(
                    spec,
                    other.map_or("absent", |_| "no tensor").to_owned(),
                    "a tensor".to_owned(),
                )),
            })
            .collect()
    }

    fn output(&self, spec: &TensorSpec, tensor: &Tensor) -> Result<HostTensor, Error> {
        let failed = |error: TchError| Error::Forward(concise(&error.to_string()));
        let kind = tensor.f_kind().map_err(failed)?;
        let Some(datatype) = datatype(kind).filter(|datatype| *datatype == spec.datatype) else {
            return Err(mismatch(
                spec,
                format!("{kind:?}"),
                spec.datatype.to_string(),
            ));
        };
        let shape = Shape::new(tensor.size())
            .map_err(|error| mismatch(spec, error.to_string(), "a shape".to_owned()))?;
        let bytes = if self.settings.stateful {
            TorchBytes::new(&tensor.f_detach_copy().map_err(failed)?)
        } else {
            TorchBytes::new(tensor)
        };
        Ok(HostTensor {
            datatype,
            shape,
            data: HostData::Torch(bytes.map_err(failed)?),
        })
    }
}

fn mismatch(spec: &TensorSpec, actual: String, expected: String) -> Error {
    Error::Output {
        name: spec.name.clone(),
        actual,
        expected,
    }
}

/// Outputs are found by `__<index>` where all names have one, else by order.
fn output_places(specs: &[TensorSpec]) -> Vec<usize> {
    all_places(specs, indexed).unwrap_or_else(|| (0..specs.len()).collect())
}

fn scalar_value(kind: ArgumentKind, scalar: &Tensor) -> Result<IValue, TchError> {
    Ok(match kind {
        ArgumentKind::Float => IValue::Double(scalar.f_double_value(&[0; 8][..scalar.dim()])?),
        ArgumentKind::Bool => IValue::Bool(scalar.f_int64_value(&[0; 8][..scalar.dim()])? != 0),
        _ => IValue::Int(scalar.f_int64_value(&[0; 8][..scalar.dim()])?),
    })
}

fn texts(values: &[IValue]) -> Option<Vec<String>> {
    let text = |value: &IValue| match value {
        IValue::String(text) => Some(text.clone()),
        _ => None,
    };
    values.iter().map(text).collect()
}

fn strings(tensor: HostTensor) -> Result<Vec<String>, String> {
    let data = tensor.data.into_bytes(());
    BytesElements::new(data)
        .map(|element| {
            String::from_utf8(element.to_vec()).map_err(|_| {
                "holds an element that is not UTF-8, which a List[str] cannot".to_owned()
            })
        })
        .collect()
}

fn string_output(spec: &TensorSpec, texts: &[String]) -> Result<HostTensor, Error> {
    if spec.datatype != DataType::Bytes {
        return Err(mismatch(
            spec,
            "a List[str]".to_owned(),
            spec.datatype.to_string(),
        ));
    }
    let count = i64::try_from(texts.len()).unwrap_or(i64::MAX);
    let shape = Shape::new(vec![count])
        .map_err(|error| mismatch(spec, error.to_string(), "a shape".to_owned()))?;
    Ok(HostTensor {
        datatype: DataType::Bytes,
        shape,
        data: HostData::Wire(encode_bytes_elements(texts)),
    })
}

/// One loaded copy of the module.
#[derive(Debug)]
struct Loaded {
    plan: Arc<Plan>,
    module: CModule,
}

impl Instance for Loaded {
    fn forward(&mut self, mut inputs: Vec<Option<HostTensor>>) -> Result<Vec<HostTensor>, Error> {
        limit_threads(self.plan.settings.intra_op_threads);
        let mut arguments = Vec::with_capacity(self.plan.inputs.len());
        for (argument, input) in self.plan.schema.arguments.iter().zip(&self.plan.inputs) {
            match input.and_then(|input| inputs.get_mut(input)?.take()) {
                Some(tensor) => arguments.push(self.plan.argument(argument, tensor)?),
                // TorchScript fills trailing arguments from their defaults.
                None if argument.has_default => break,
                None => arguments.push(IValue::None),
            }
        }
        let result = tch::no_grad(|| self.module.forward_is(&arguments));
        let value = result.map_err(|error| Error::Forward(concise(&error.to_string())))?;
        self.plan.outputs(value)
    }

    fn reset(&mut self) -> Result<(), Error> {
        if self.plan.schema.has_reset {
            self.module
                .method_is::<IValue>("reset_states", &[])
                .map_err(|error| Error::Forward(concise(&error.to_string())))?;
        } else {
            self.module = self.plan.module()?;
        }
        Ok(())
    }
}

/// Sets libtorch's thread count for the calling thread, once: MKL and OpenMP keep it per thread.
fn limit_threads(threads: usize) {
    thread_local! {
        static LIMIT: Cell<usize> = const { Cell::new(0) };
    }
    if LIMIT.replace(threads) != threads
        && let Ok(threads) = i32::try_from(threads)
    {
        tch::set_num_threads(threads);
    }
}
