//! The answer to a request, as both ends see it.

use crate::{
    DataType, InferRequest, Parameter, Parameters, ProtocolError, Shape, Tensor,
    inference::{ModelInferResponse, ModelStreamInferResponse, model_infer_response as wire},
    parameter,
};

/// The response parameter that carries a failure's gRPC code, which the stream has no field for.
const STATUS_PARAMETER: &str = "forebay_status";

/// What a model answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferResponse {
    /// The model.
    pub model_name: String,
    /// The version that answered, in decimal.
    pub model_version: String,
    /// The request's id.
    pub id: String,
    /// Parameters of the protocol and the server's own.
    pub parameters: Parameters,
    /// The output tensors, in the order asked for.
    pub outputs: Vec<Tensor>,
}

impl From<InferResponse> for ModelInferResponse {
    fn from(response: InferResponse) -> Self {
        let mut outputs = Vec::with_capacity(response.outputs.len());
        let mut raw = Vec::with_capacity(response.outputs.len());
        for tensor in response.outputs {
            let (name, datatype, shape, data) = tensor.into_parts();
            outputs.push(wire::InferOutputTensor {
                name,
                datatype: datatype.name().to_owned(),
                shape: shape.dims().to_vec(),
                ..Default::default()
            });
            raw.push(data);
        }
        Self {
            model_name: response.model_name,
            model_version: response.model_version,
            id: response.id,
            parameters: parameter::send(response.parameters),
            outputs,
            raw_output_contents: raw,
        }
    }
}

impl TryFrom<ModelInferResponse> for InferResponse {
    type Error = ProtocolError;

    fn try_from(message: ModelInferResponse) -> Result<Self, ProtocolError> {
        let (expected, actual) = (message.outputs.len(), message.raw_output_contents.len());
        if expected != actual {
            return Err(ProtocolError::RawCount { expected, actual });
        }
        let outputs = message
            .outputs
            .into_iter()
            .zip(message.raw_output_contents)
            .map(|(output, data)| {
                let datatype: DataType =
                    output
                        .datatype
                        .parse()
                        .map_err(|_| ProtocolError::UnknownDatatype {
                            tensor: output.name.clone(),
                            datatype: output.datatype.clone(),
                        })?;
                Tensor::new(output.name, datatype, Shape::new(output.shape)?, data)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            model_name: message.model_name,
            model_version: message.model_version,
            id: message.id,
            parameters: parameter::receive(message.parameters)?,
            outputs,
        })
    }
}

/// One message of a response stream: the answer to one request, or why it failed.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamReply {
    /// The request was answered.
    Answer(InferResponse),
    /// The request failed; the stream goes on.
    Failure {
        /// The request's id.
        id: String,
        /// The model it asked for, as far as the server says.
        model_name: String,
        /// What went wrong.
        message: String,
        /// The gRPC code it amounts to, where the server says.
        code: Option<i32>,
    },
}

impl StreamReply {
    /// Makes the failure of `request`.
    pub fn failure(request: &InferRequest, message: impl Into<String>) -> Self {
        Self::Failure {
            id: request.id.clone(),
            model_name: request.model_name.clone(),
            message: message.into(),
            code: None,
        }
    }
}

impl From<StreamReply> for ModelStreamInferResponse {
    fn from(reply: StreamReply) -> Self {
        match reply {
            StreamReply::Answer(response) => Self {
                error_message: String::new(),
                infer_response: Some(response.into()),
            },
            StreamReply::Failure {
                id,
                model_name,
                message,
                code,
            } => Self {
                error_message: message,
                infer_response: Some(ModelInferResponse {
                    id,
                    model_name,
                    parameters: code
                        .map(|code| {
                            (
                                STATUS_PARAMETER.to_owned(),
                                Parameter::Int64(code.into()).into(),
                            )
                        })
                        .into_iter()
                        .collect(),
                    ..Default::default()
                }),
            },
        }
    }
}

impl TryFrom<ModelStreamInferResponse> for StreamReply {
    type Error = ProtocolError;

    fn try_from(message: ModelStreamInferResponse) -> Result<Self, ProtocolError> {
        if message.error_message.is_empty() {
            let response = message.infer_response.ok_or(ProtocolError::Missing {
                what: "infer_response",
            })?;
            return Ok(Self::Answer(response.try_into()?));
        }
        let response = message.infer_response.unwrap_or_default();
        let parameters = parameter::receive(response.parameters)?;
        let code = parameters.get(STATUS_PARAMETER).and_then(Parameter::as_u64);
        Ok(Self::Failure {
            id: response.id,
            model_name: response.model_name,
            message: message.error_message,
            code: code.and_then(|code| code.try_into().ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_survive_the_round_trip() {
        let shape = Shape::new(vec![3]).unwrap();
        let answer = StreamReply::Answer(InferResponse {
            id: "1".into(),
            outputs: vec![Tensor::new("y", DataType::Uint8, shape, vec![1, 2, 3]).unwrap()],
            ..Default::default()
        });
        let failure = |code| StreamReply::Failure {
            id: "2".into(),
            model_name: "m".into(),
            message: "no".into(),
            code,
        };
        for reply in [answer, failure(None), failure(Some(8))] {
            let back = StreamReply::try_from(ModelStreamInferResponse::from(reply.clone()));
            assert_eq!(back, Ok(reply));
        }
    }

    #[test]
    fn an_answer_without_raw_contents_is_refused() {
        let message = ModelInferResponse {
            outputs: vec![wire::InferOutputTensor::default()],
            ..Default::default()
        };
        assert!(matches!(
            InferResponse::try_from(message),
            Err(ProtocolError::RawCount {
                expected: 1,
                actual: 0
            })
        ));
    }
}
