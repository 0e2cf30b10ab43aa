//! A whole stream, from the first request to its end, as it goes over the wire.

use forebay_proto::{
    StreamReply,
    inference::{ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient},
};
use forebay_tests::harness::within;
use tonic::{Request, Status, transport::Channel};

/// Sends `messages` over one stream, with `metadata`, and returns its replies and how it ended.
pub(crate) async fn converse(
    service: &mut GrpcInferenceServiceClient<Channel>,
    messages: Vec<ModelInferRequest>,
    metadata: &[(&'static str, &'static str)],
) -> (Vec<StreamReply>, Result<(), Status>) {
    let mut request = Request::new(tokio_stream::iter(messages));
    for &(name, value) in metadata {
        let value = value.parse().expect("values of tests are ASCII");
        request.metadata_mut().insert(name, value);
    }
    let mut replies = Vec::new();
    let mut stream = match within(service.model_stream_infer(request)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return (replies, Err(status)),
    };
    loop {
        match within(stream.message()).await {
            Ok(Some(reply)) => {
                replies.push(StreamReply::try_from(reply).expect("replies are well formed"));
            }
            Ok(None) => return (replies, Ok(())),
            Err(status) => return (replies, Err(status)),
        }
    }
}
