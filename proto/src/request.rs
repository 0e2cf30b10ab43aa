//! A request for an inference, as both ends see it.

use std::{collections::HashSet, fmt, mem, time::Duration};

use bytes::Bytes;

use crate::{
    DataType, Parameter, Parameters, ProtocolError, Shape, Tensor, contents,
    inference::{ModelInferRequest, model_infer_request as wire},
    limits::{MAX_INPUTS, MAX_OUTPUTS},
    parameter,
    tensor::{check_length, check_name},
};

/// What a client asks of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferRequest {
    /// The model.
    pub model_name: String,
    /// Its version in decimal; empty means the latest.
    pub model_version: String,
    /// Echoed in the answer; may be empty.
    pub id: String,
    /// Parameters of the protocol and the caller's own.
    pub parameters: Parameters,
    /// The input tensors.
    pub inputs: Vec<Tensor>,
    /// Names of the outputs wanted; empty means all.
    pub outputs: Vec<String>,
}

/// Names a sequence: requests that share it reach the same state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SequenceId {
    /// A number other than 0.
    Number(u64),
    /// A text that is not empty.
    Text(String),
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(id) => write!(f, "{id}"),
            Self::Text(id) => f.write_str(id),
        }
    }
}

/// A request's place in a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceControl {
    /// The sequence.
    pub id: SequenceId,
    /// Whether the request opens it.
    pub start: bool,
    /// Whether the request closes it.
    pub end: bool,
}

impl InferRequest {
    /// Returns the bytes of all input tensors.
    pub fn input_bytes(&self) -> u64 {
        self.inputs
            .iter()
            .map(|tensor| tensor.data().len() as u64)
            .sum()
    }

    /// Reads the `sequence_id`, `sequence_start` and `sequence_end` parameters. An id of 0 or ""
    /// is none.
    ///
    /// # Errors
    /// One of them has a value of the wrong type.
    pub fn sequence(&self) -> Result<Option<SequenceControl>, ProtocolError> {
        let id = match self.parameters.get("sequence_id") {
            None => return Ok(None),
            Some(Parameter::String(id)) if id.is_empty() => return Ok(None),
            Some(Parameter::String(id)) => SequenceId::Text(id.clone()),
            Some(value) => match value.as_u64() {
                Some(0) => return Ok(None),
                Some(id) => SequenceId::Number(id),
                None => return Err(wrong("sequence_id", "an unsigned integer or a string")),
            },
        };
        Ok(Some(SequenceControl {
            id,
            start: self.flag("sequence_start")?,
            end: self.flag("sequence_end")?,
        }))
    }

    /// Reads the `timeout` parameter, which is in microseconds; 0 is none.
    ///
    /// # Errors
    /// It is not a whole number, or negative.
    pub fn timeout(&self) -> Result<Option<Duration>, ProtocolError> {
        match self.parameters.get("timeout").map(Parameter::as_u64) {
            None | Some(Some(0)) => Ok(None),
            Some(Some(micros)) => Ok(Some(Duration::from_micros(micros))),
            Some(None) => Err(wrong("timeout", "a number of microseconds")),
        }
    }

    /// Reads a parameter that is a truth value; absent means false.
    ///
    /// # Errors
    /// It has a value of another type.
    pub fn flag(&self, name: &str) -> Result<bool, ProtocolError> {
        match self.parameters.get(name) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| wrong(name, "a bool")),
        }
    }
}

fn wrong(name: &str, expected: &'static str) -> ProtocolError {
    ProtocolError::WrongParameter {
        name: name.to_owned(),
        expected,
    }
}

impl From<InferRequest> for ModelInferRequest {
    fn from(request: InferRequest) -> Self {
        let mut inputs = Vec::with_capacity(request.inputs.len());
        let mut raw = Vec::with_capacity(request.inputs.len());
        for tensor in request.inputs {
            let (name, datatype, shape, data) = tensor.into_parts();
            inputs.push(wire::InferInputTensor {
                name,
                datatype: datatype.name().to_owned(),
                shape: shape.dims().to_vec(),
                ..Default::default()
            });
            raw.push(data);
        }
        Self {
            model_name: request.model_name,
            model_version: request.model_version,
            id: request.id,
            parameters: parameter::send(request.parameters),
            inputs,
            outputs: request
                .outputs
                .into_iter()
                .map(|name| wire::InferRequestedOutputTensor {
                    name,
                    ..Default::default()
                })
                .collect(),
            raw_input_contents: raw,
        }
    }
}

impl TryFrom<ModelInferRequest> for InferRequest {
    type Error = ProtocolError;

    fn try_from(mut message: ModelInferRequest) -> Result<Self, ProtocolError> {
        Self::take(&mut message)
    }
}

impl InferRequest {
    /// Takes the request out of `message`, and leaves it its names where the request is wrong, for whoever
    /// is to tell of which model it was.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(message: &mut ModelInferRequest) -> Result<Self, ProtocolError> {
        check_name("model_name", &message.model_name)?;
        check_length("model_version", &message.model_version)?;
        check_length("id", &message.id)?;
        check_count("inputs", message.inputs.len(), MAX_INPUTS)?;
        check_count("outputs", message.outputs.len(), MAX_OUTPUTS)?;
        let parameters = parameter::receive(mem::take(&mut message.parameters))?;
        if let Some(name) = parameters.keys().find(|name| {
            name.starts_with("triton_") && *name != "triton_enable_empty_final_response"
        }) {
            return Err(ProtocolError::ReservedParameter { name: name.clone() });
        }
        let raw = mem::take(&mut message.raw_input_contents);
        let inputs = receive_inputs(mem::take(&mut message.inputs), raw)?;
        let asked = mem::take(&mut message.outputs);
        let mut outputs = Vec::with_capacity(asked.len());
        for output in asked {
            check_name("output name", &output.name)?;
            let parameters = parameter::receive(output.parameters)?;
            // 0 asks for none, as clients say that do not mean it.
            if parameters
                .get("classification")
                .is_some_and(|classes| classes.as_u64() != Some(0))
            {
                let output = output.name;
                return Err(ProtocolError::Classification { output });
            }
            check_memory(&output.name, parameters)?;
            if outputs.contains(&output.name) {
                return Err(ProtocolError::Duplicate {
                    what: "requested output",
                    name: output.name,
                });
            }
            outputs.push(output.name);
        }
        Ok(Self {
            model_name: mem::take(&mut message.model_name),
            model_version: mem::take(&mut message.model_version),
            id: mem::take(&mut message.id),
            parameters,
            inputs,
            outputs,
        })
    }
}

fn receive_inputs(
    inputs: Vec<wire::InferInputTensor>,
    raw: Vec<Bytes>,
) -> Result<Vec<Tensor>, ProtocolError> {
    let typed = raw.is_empty();
    let expected = inputs.len();
    let actual = raw.len();
    let mut raw = raw.into_iter();
    let mut names = HashSet::new();
    let mut tensors = Vec::with_capacity(expected);
    for input in inputs {
        check_name("input name", &input.name)?;
        // Most requests have one input, which can be nobody's double.
        if expected > 1 && !names.insert(input.name.clone()) {
            return Err(ProtocolError::Duplicate {
                what: "input",
                name: input.name,
            });
        }
        check_memory(&input.name, parameter::receive(input.parameters)?)?;
        let datatype: DataType =
            input
                .datatype
                .parse()
                .map_err(|_| ProtocolError::UnknownDatatype {
                    tensor: input.name.clone(),
                    datatype: input.datatype.clone(),
                })?;
        let shape = Shape::new(input.shape)?;
        let data = match (input.contents, typed) {
            (Some(_), false) => return Err(ProtocolError::MixedContents { tensor: input.name }),
            (None, false) => raw
                .next()
                .ok_or(ProtocolError::RawCount { expected, actual })?,
            (Some(contents), true) => contents::to_raw(&input.name, datatype, contents)?,
            (None, true) if shape.elements() == 0 => Bytes::new(),
            (None, true) => return Err(ProtocolError::MissingData { tensor: input.name }),
        };
        tensors.push(Tensor::new(input.name, datatype, shape, data)?);
    }
    if raw.next().is_some() {
        return Err(ProtocolError::RawCount { expected, actual });
    }
    Ok(tensors)
}

fn check_memory(tensor: &str, parameters: Parameters) -> Result<(), ProtocolError> {
    if parameters.contains_key("shared_memory_region") {
        return Err(ProtocolError::SharedMemory {
            tensor: tensor.to_owned(),
        });
    }
    Ok(())
}

pub(crate) fn check_count(
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<(), ProtocolError> {
    if count > limit {
        return Err(ProtocolError::TooMany { what, count, limit });
    }
    Ok(())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
