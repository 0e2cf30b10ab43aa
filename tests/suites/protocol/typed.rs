//! Typed contents, which some clients send; answers are raw, which all of them read.

use forebay_client::DataType;
use forebay_proto::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse,
    model_infer_request::InferInputTensor,
};
use forebay_tests::harness::{TestServer, echo, within};

/// Sends two elements as `contents` to an echo, and asserts that they come back as `raw`.
async fn answers_raw(datatype: DataType, contents: InferTensorContents, raw: &[u8]) {
    let config_type = match datatype {
        DataType::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{other}"),
    };
    let server = TestServer::builder()
        .with_model("echo", &echo("echo", &config_type, ""), None)
        .start()
        .await;
    let request = ModelInferRequest {
        model_name: "echo".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: datatype.name().to_owned(),
            shape: vec![2],
            contents: Some(contents),
            ..InferInputTensor::default()
        }],
        ..ModelInferRequest::default()
    };
    let answer = within(server.service().await.model_infer(request)).await;
    let ModelInferResponse {
        outputs,
        raw_output_contents,
        ..
    } = answer.unwrap().into_inner();
    assert_eq!(outputs[0].datatype, datatype.name());
    assert_eq!(outputs[0].contents, None);
    assert_eq!(raw_output_contents, [raw]);
    server.stop().await;
}

/// One test for each datatype: the field of its contents, two values, and their bytes.
macro_rules! answers_raw {
    ($($name:ident: $datatype:ident in $field:ident: $values:expr => $raw:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let contents = InferTensorContents {
                $field: $values.into(),
                ..InferTensorContents::default()
            };
            answers_raw(DataType::$datatype, contents, &$raw).await;
        }
    )*};
}

answers_raw! {
    bools_are_answered_raw: Bool in bool_contents: [true, false] => [1, 0];
    small_integers_are_narrowed: Int8 in int_contents: [-2, 3] => [0xfe, 3];
    short_integers_are_narrowed: Int16 in int_contents: [-2, 3] => [0xfe, 0xff, 3, 0];
    integers_are_answered_raw: Int32 in int_contents: [-2, 3] => [0xfe, 0xff, 0xff, 0xff, 3, 0, 0, 0];
    long_integers_are_answered_raw: Int64 in int64_contents: [1, 2] => [1u64.to_le_bytes(), 2u64.to_le_bytes()].concat();
    small_unsigned_are_narrowed: Uint8 in uint_contents: [255u32, 3] => [255, 3];
    short_unsigned_are_narrowed: Uint16 in uint_contents: [256u32, 3] => [0, 1, 3, 0];
    unsigned_are_answered_raw: Uint32 in uint_contents: [256u32, 3] => [0, 1, 0, 0, 3, 0, 0, 0];
    long_unsigned_are_answered_raw: Uint64 in uint64_contents: [u64::MAX, 0] => [u64::MAX.to_le_bytes(), 0u64.to_le_bytes()].concat();
    floats_are_answered_raw: Fp32 in fp32_contents: [0.5f32, -1.0] => [0.5f32.to_le_bytes(), (-1.0f32).to_le_bytes()].concat();
    doubles_are_answered_raw: Fp64 in fp64_contents: [0.5, -1.0] => [0.5f64.to_le_bytes(), (-1.0f64).to_le_bytes()].concat();
    strings_are_answered_with_their_lengths: Bytes in bytes_contents: [bytes::Bytes::from("ab"), bytes::Bytes::new()] => *b"\x02\0\0\0ab\0\0\0\0";
}
