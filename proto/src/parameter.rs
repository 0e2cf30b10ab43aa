//! Named values beside the tensors.

use std::collections::BTreeMap;

use crate::{
    ProtocolError,
    inference::{self, infer_parameter::ParameterChoice},
    limits::MAX_PARAMETERS,
    tensor::check_name,
};

/// Parameters by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int64(i64),
    /// An unsigned integer.
    Uint64(u64),
    /// A floating-point number.
    Double(f64),
    /// A text.
    String(String),
}

impl Parameter {
    /// Returns the value if it is a whole number that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int64(value) => u64::try_from(*value).ok(),
            Self::Uint64(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the value if it is a truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

impl From<Parameter> for inference::InferParameter {
    fn from(parameter: Parameter) -> Self {
        let choice = match parameter {
            Parameter::Bool(value) => ParameterChoice::BoolParam(value),
            Parameter::Int64(value) => ParameterChoice::Int64Param(value),
            Parameter::Uint64(value) => ParameterChoice::Uint64Param(value),
            Parameter::Double(value) => ParameterChoice::DoubleParam(value),
            Parameter::String(value) => ParameterChoice::StringParam(value),
        };
        Self {
            parameter_choice: Some(choice),
        }
    }
}

type Received = BTreeMap<String, inference::InferParameter>;

pub(crate) fn receive(parameters: Received) -> Result<Parameters, ProtocolError> {
    if parameters.len() > MAX_PARAMETERS {
        return Err(ProtocolError::TooMany {
            what: "parameters",
            count: parameters.len(),
            limit: MAX_PARAMETERS,
        });
    }
    parameters
        .into_iter()
        .map(|(name, value)| {
            check_name("parameter name", &name)?;
            let value = match value.parameter_choice {
                Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(value),
                Some(ParameterChoice::Int64Param(value)) => Parameter::Int64(value),
                Some(ParameterChoice::Uint64Param(value)) => Parameter::Uint64(value),
                Some(ParameterChoice::DoubleParam(value)) => Parameter::Double(value),
                Some(ParameterChoice::StringParam(value)) => Parameter::String(value),
                None => {
                    return Err(ProtocolError::WrongParameter {
                        name,
                        expected: "a bool, int64, uint64, double or string",
                    });
                }
            };
            Ok((name, value))
        })
        .collect()
}

pub(crate) fn send(parameters: Parameters) -> Received {
    parameters
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect()
}
