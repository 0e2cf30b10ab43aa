use proptest::prelude::*;

use super::*;
use crate::inference::{InferParameter, InferTensorContents, infer_parameter::ParameterChoice};

fn message() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        inputs: vec![wire::InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1, 2],
            ..Default::default()
        }],
        raw_input_contents: vec![Bytes::from_static(&[0; 8])],
        ..Default::default()
    }
}

fn refusal(change: impl FnOnce(&mut ModelInferRequest)) -> String {
    let mut message = message();
    change(&mut message);
    InferRequest::try_from(message).unwrap_err().to_string()
}

#[test]
fn each_fault_is_refused_by_name() {
    assert!(InferRequest::try_from(message()).is_ok());
    let faults: [(&str, String); 9] = [
        (
            "model_name must not be empty",
            refusal(|m| m.model_name.clear()),
        ),
        (
            "datatype 'float'",
            refusal(|m| m.inputs[0].datatype = "float".into()),
        ),
        ("negative dimension", refusal(|m| m.inputs[0].shape[0] = -1)),
        (
            "fit 64 bits",
            refusal(|m| m.inputs[0].shape = vec![i64::MAX, i64::MAX]),
        ),
        (
            "Expected 8, got 7",
            refusal(|m| m.raw_input_contents[0] = Bytes::from_static(&[0; 7])),
        ),
        (
            "raw contents",
            refusal(|m| m.raw_input_contents.push(Bytes::new())),
        ),
        (
            "unable to find data",
            refusal(|m| m.raw_input_contents.clear()),
        ),
        (
            "more than once",
            refusal(|m| {
                m.inputs.push(m.inputs[0].clone());
                m.raw_input_contents.push(m.raw_input_contents[0].clone());
            }),
        ),
        (
            "must not be specified when using raw",
            refusal(|m| {
                m.inputs[0].contents = Some(InferTensorContents {
                    fp32_contents: vec![1.0, 2.0],
                    ..Default::default()
                });
            }),
        ),
    ];
    for (expected, text) in faults {
        assert!(
            text.contains(expected),
            "{text:?} does not say {expected:?}"
        );
    }
}

#[test]
fn sequence_ids_are_numbers_or_texts_and_zero_is_none() {
    let sequence = |choice| {
        let mut message = message();
        message.parameters.insert(
            "sequence_id".into(),
            InferParameter {
                parameter_choice: Some(choice),
            },
        );
        InferRequest::try_from(message).unwrap().sequence()
    };
    let id = |choice| sequence(choice).unwrap().map(|control| control.id);
    assert_eq!(
        id(ParameterChoice::Int64Param(7)),
        Some(SequenceId::Number(7))
    );
    assert_eq!(id(ParameterChoice::Uint64Param(0)), None);
    assert_eq!(id(ParameterChoice::StringParam(String::new())), None);
    assert_eq!(
        id(ParameterChoice::StringParam("a".into())),
        Some(SequenceId::Text("a".into()))
    );
    assert!(sequence(ParameterChoice::DoubleParam(1.0)).is_err());
}

proptest! {
    #[test]
    fn requests_survive_the_round_trip(
        tensors in proptest::collection::vec((0i64..4, 0i64..4), 0..5),
        id in "[a-z]{0,9}",
        number in any::<i64>(),
    ) {
        let request = InferRequest {
            model_name: "m".into(),
            id,
            parameters: [("p".to_owned(), Parameter::Int64(number))].into(),
            inputs: tensors.iter().enumerate().map(|(index, &(a, b))| {
                let shape = Shape::new(vec![a, b]).unwrap();
                let bytes = vec![7; usize::try_from(2 * shape.elements()).unwrap()];
                Tensor::new(format!("t{index}"), DataType::Fp16, shape, bytes).unwrap()
            }).collect(),
            outputs: vec!["y".into()],
            ..Default::default()
        };
        let back = InferRequest::try_from(ModelInferRequest::from(request.clone()));
        prop_assert_eq!(back, Ok(request));
    }
}
