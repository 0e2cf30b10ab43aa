//! Messages that are well formed, and wrong.

use bytes::Bytes;
use forebay_proto::{
    StreamReply,
    inference::{
        InferParameter, InferTensorContents, ModelInferRequest, ModelMetadataRequest,
        infer_parameter::ParameterChoice, model_infer_request::InferRequestedOutputTensor,
    },
};
use forebay_tests::{
    harness::{TestServer, within},
    models::Fixture,
};
use tonic::Code;

use super::{assert_says, good, refuses, serves_on};
use crate::conversation::converse;

fn bad(change: impl FnOnce(&mut ModelInferRequest)) -> ModelInferRequest {
    let mut message = good("bad");
    change(&mut message);
    message
}

#[tokio::test]
async fn an_unknown_model_is_not_found() {
    let message = bad(|m| m.model_name = "nobody".into());
    refuses(message, Code::NotFound, "'nobody' is not found").await;
}

#[tokio::test]
async fn an_unknown_version_is_not_found() {
    let message = bad(|m| m.model_version = "7".into());
    refuses(message, Code::NotFound, "'simple' version 7 is not found").await;
}

#[tokio::test]
async fn a_version_that_is_no_number_is_named() {
    let message = bad(|m| m.model_version = "newest".into());
    refuses(message, Code::InvalidArgument, "'newest'").await;
}

#[tokio::test]
async fn a_message_that_is_wrong_in_itself_counts_as_a_failure_of_its_model() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut service = server.service().await;
    let twice = bad(|m| m.inputs[1].name = m.inputs[0].name.clone());
    let flag = bad(|m| {
        let choice = Some(ParameterChoice::Int64Param(1));
        let name = "triton_enable_empty_final_response".to_owned();
        m.parameters.insert(
            name,
            InferParameter {
                parameter_choice: choice,
            },
        );
    });
    for message in [&twice, &flag] {
        let refused = within(service.model_infer(message.clone())).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
    let (replies, end) = converse(&mut service, vec![twice, flag], &[]).await;
    assert_eq!((replies.len(), end.is_ok()), (2, true));
    let stats = server.model("simple").report().inference_stats.unwrap();
    assert_eq!(stats.fail.unwrap().count, 4);
    serves_on(server).await;
}

#[tokio::test]
async fn what_is_far_too_long_is_not_repeated() {
    let long = || "x".repeat(100_000);
    let text = "a id of 100000 bytes; at most 256";
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut service = server.service().await;
    for (message, text) in [
        (bad(|m| m.id = long()), text),
        (
            bad(|m| m.model_name = long()),
            "a model_name of 100000 bytes",
        ),
        (bad(|m| m.inputs[0].datatype = long()), "has datatype 'xxx"),
    ] {
        let refused = within(service.model_infer(message.clone()))
            .await
            .unwrap_err();
        assert_says(&refused, Code::InvalidArgument, text);
        assert!(refused.message().len() < 4096);
        let (replies, _) = converse(&mut service, vec![message], &[]).await;
        let [
            StreamReply::Failure {
                message,
                id,
                model_name,
                ..
            },
        ] = &replies[..]
        else {
            panic!("{replies:?}");
        };
        assert!(message.contains(text) && message.len() + id.len() + model_name.len() < 4096);
    }
    let name = ModelMetadataRequest {
        name: long(),
        ..Default::default()
    };
    let unknown = within(service.model_metadata(name)).await.unwrap_err();
    assert_says(&unknown, Code::NotFound, "unknown model");
    assert!(unknown.message().len() < 4096);
    serves_on(server).await;
}

#[tokio::test]
async fn a_wrong_shape_is_shown_beside_the_right_one() {
    let message = bad(|m| m.inputs[1].shape = vec![1, 4, 4]);
    let text = "'INPUT1' for model 'simple'. Expected [-1,16], got [1,4,4]";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn a_wrong_datatype_is_shown_beside_the_right_one() {
    let message = bad(|m| m.inputs[0].datatype = "FP32".into());
    let text = "'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn a_datatype_that_does_not_exist_is_named() {
    let message = bad(|m| m.inputs[0].datatype = "FLOAT".into());
    let text = "'INPUT0' has datatype 'FLOAT'";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn too_few_bytes_are_counted() {
    let message = bad(|m| m.raw_input_contents[1].truncate(63));
    let text = "'INPUT1'. Expected 64, got 63";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn too_many_bytes_are_counted() {
    let message = bad(|m| m.raw_input_contents[0] = Bytes::from_static(&[0; 65]));
    let text = "'INPUT0'. Expected 64, got 65";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn a_missing_input_is_named() {
    let message = bad(|m| {
        m.inputs.pop();
        m.raw_input_contents.pop();
    });
    let text = "missing required input(s) ['INPUT1']";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn an_input_that_the_model_does_not_have_is_named() {
    let message = bad(|m| m.inputs[1].name = "INPUT7".into());
    refuses(message, Code::InvalidArgument, "'INPUT7'").await;
}

#[tokio::test]
async fn an_output_that_the_model_does_not_have_is_named() {
    let message = bad(|m| {
        m.outputs = vec![InferRequestedOutputTensor {
            name: "OUTPUT7".into(),
            ..InferRequestedOutputTensor::default()
        }];
    });
    refuses(message, Code::InvalidArgument, "'OUTPUT7'").await;
}

#[tokio::test]
async fn an_input_that_comes_twice_is_named() {
    let message = bad(|m| m.inputs[1].name = "INPUT0".into());
    refuses(message, Code::InvalidArgument, "'INPUT0' appears more").await;
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_told_the_limit() {
    let message = bad(|m| {
        for (input, raw) in m.inputs.iter_mut().zip(&mut m.raw_input_contents) {
            input.shape = vec![9, 16];
            *raw = Bytes::from(vec![0; 9 * 64]);
        }
    });
    refuses(message, Code::InvalidArgument, "must be <= 8 for 'simple'").await;
}

#[tokio::test]
async fn a_batch_of_nothing_is_refused() {
    let message = bad(|m| {
        for (input, raw) in m.inputs.iter_mut().zip(&mut m.raw_input_contents) {
            input.shape = vec![0, 16];
            raw.clear();
        }
    });
    refuses(message, Code::InvalidArgument, "must be >= 1 for 'simple'").await;
}

#[tokio::test]
async fn inputs_that_disagree_on_the_batch_are_named() {
    let message = bad(|m| {
        m.inputs[1].shape = vec![2, 16];
        m.raw_input_contents[1] = Bytes::from(vec![0; 2 * 64]);
    });
    let text = "'INPUT1' has batch size 2, but input 'INPUT0' has 1";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn negative_dimensions_are_shown() {
    let message = bad(|m| m.inputs[0].shape = vec![-1, 16]);
    let text = "[-1, 16] has a negative dimension";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn dimensions_whose_product_overflows_are_shown() {
    let huge = i64::MAX;
    let message = bad(|m| m.inputs[0].shape = vec![huge, huge]);
    refuses(message, Code::InvalidArgument, "64 bits").await;
}

#[tokio::test]
async fn dimensions_whose_bytes_overflow_are_refused() {
    // 2^62 elements of 4 bytes make 2^64, which is 0 to whoever counts carelessly.
    let message = bad(|m| {
        m.inputs[0].shape = vec![1 << 31, 1 << 31];
        m.raw_input_contents[0].clear();
    });
    let text = "[2147483648, 2147483648] has more elements";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn raw_and_typed_contents_do_not_mix() {
    let message = bad(|m| {
        m.inputs[0].contents = Some(InferTensorContents {
            int_contents: vec![1; 16],
            ..InferTensorContents::default()
        });
    });
    let text = "raw_input_contents for input 'INPUT0'";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn typed_contents_of_another_type_are_named() {
    let message = bad(|m| {
        m.raw_input_contents.clear();
        for input in &mut m.inputs {
            input.contents = Some(InferTensorContents {
                fp32_contents: vec![1.0; 16],
                ..InferTensorContents::default()
            });
        }
    });
    refuses(message, Code::InvalidArgument, "'INPUT0'").await;
}

#[tokio::test]
async fn inputs_without_contents_are_named() {
    let message = bad(|m| m.raw_input_contents.clear());
    let text = "unable to find data for input tensor 'INPUT0'";
    refuses(message, Code::InvalidArgument, text).await;
}

#[tokio::test]
async fn an_empty_message_lacks_a_model() {
    let message = ModelInferRequest::default();
    refuses(
        message,
        Code::InvalidArgument,
        "model_name must not be empty",
    )
    .await;
}
