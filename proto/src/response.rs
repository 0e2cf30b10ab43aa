//! The answer to a request, as both ends see it.

use bytes::Bytes;

use crate::{
    DataType, InferRequest, Parameter, Parameters, ProtocolError, Shape, Tensor, contents,
    inference::{
        InferTensorContents, ModelInferResponse, ModelStreamInferResponse,
        model_infer_response as wire,
    },
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
        let outputs = receive_outputs(message.outputs, message.raw_output_contents)?;
        Ok(Self {
            model_name: message.model_name,
            model_version: message.model_version,
            id: message.id,
            parameters: parameter::receive(message.parameters)?,
            outputs,
        })
    }
}

/// Returns the tensors of a reply, all from `raw`, as Forebay sends them, or where that is empty, all
/// from typed contents, as other servers may.
///
/// # Errors
/// Neither form has all tensors, a tensor has both, or one that does not fit its datatype and shape.
fn receive_outputs(
    outputs: Vec<wire::InferOutputTensor>,
    raw: Vec<Bytes>,
) -> Result<Vec<Tensor>, ProtocolError> {
    let (expected, actual) = (outputs.len(), raw.len());
    let typed = actual == 0 && outputs.iter().all(|output| output.contents.is_some());
    if expected != actual && !typed {
        return Err(ProtocolError::RawCount { expected, actual });
    }
    let mut raw = raw.into_iter();
    outputs
        .into_iter()
        .map(|output| receive_output(output, raw.next()))
        .collect()
}

fn receive_output(
    output: wire::InferOutputTensor,
    raw: Option<Bytes>,
) -> Result<Tensor, ProtocolError> {
    let datatype: DataType =
        output
            .datatype
            .parse()
            .map_err(|_| ProtocolError::UnknownDatatype {
                tensor: output.name.clone(),
                datatype: output.datatype.clone(),
            })?;
    let shape = Shape::new(output.shape)?;
    let contents = output.contents.unwrap_or_default();
    let data = match raw {
        None => contents::to_raw(&output.name, datatype, contents)?,
        Some(raw) if contents == InferTensorContents::default() => raw,
        Some(_) => {
            return Err(ProtocolError::MixedContents {
                tensor: output.name,
            });
        }
    };
    Tensor::new(output.name, datatype, shape, data)
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

    /// A reply of one output `y`.
    fn message(
        datatype: &str,
        contents: Option<InferTensorContents>,
        raw: Vec<Bytes>,
    ) -> ModelInferResponse {
        ModelInferResponse {
            outputs: vec![wire::InferOutputTensor {
                name: "y".into(),
                datatype: datatype.into(),
                shape: vec![2],
                contents,
                ..Default::default()
            }],
            raw_output_contents: raw,
            ..Default::default()
        }
    }

    fn integers(values: &[i32]) -> Option<InferTensorContents> {
        Some(InferTensorContents {
            int_contents: values.to_vec(),
            ..Default::default()
        })
    }

    #[test]
    fn typed_contents_are_taken_where_there_are_no_raw_ones() {
        let response = InferResponse::try_from(message("INT16", integers(&[-1, 258]), vec![]));
        assert_eq!(response.unwrap().outputs[0].data()[..], [0xff, 0xff, 2, 1]);
        for (datatype, contents) in [
            ("INT16", integers(&[1])),
            ("INT16", integers(&[1, 2, 3])),
            ("INT16", integers(&[])),
            ("FP32", integers(&[1, 2])),
            ("FP16", integers(&[])),
        ] {
            let message = message(datatype, contents, vec![]);
            assert!(InferResponse::try_from(message).is_err(), "{datatype}");
        }
    }

    #[test]
    fn an_answer_with_raw_and_typed_contents_is_refused() {
        let raw = vec![Bytes::from_static(&[1, 0, 2, 0])];
        let both = message("INT16", integers(&[1, 2]), raw.clone());
        assert_eq!(
            InferResponse::try_from(both),
            Err(ProtocolError::MixedContents { tensor: "y".into() })
        );
        // Empty ones say nothing.
        let response = InferResponse::try_from(message("INT16", integers(&[]), raw.clone()));
        assert_eq!(*response.unwrap().outputs[0].data(), raw[0]);
    }

    #[test]
    fn an_answer_without_contents_is_refused() {
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
