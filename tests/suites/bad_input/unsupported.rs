//! Methods of the protocol that this server does not have.

use forebay_proto::inference::*;
use forebay_tests::{
    harness::{TestServer, within},
    models::Fixture,
};
use tonic::{Code, Response, Status};

use super::{assert_says, serves_on};

fn assert_unimplemented<T>(answer: Result<Response<T>, Status>, text: &str) {
    let status = answer.map(drop).unwrap_err();
    assert_says(&status, Code::Unimplemented, text);
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented_and_no_extension_promises_it() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut client = server.service().await;
    macro_rules! unserved {
        ($text:literal: $($method:ident($request:ident)),* $(,)?) => {$(
            assert_unimplemented(within(client.$method($request::default())).await, $text);
        )*};
    }
    unserved!("loaded at start only":
        repository_model_load(RepositoryModelLoadRequest),
        repository_model_unload(RepositoryModelUnloadRequest),
    );
    unserved!("shared memory":
        system_shared_memory_status(SystemSharedMemoryStatusRequest),
        system_shared_memory_register(SystemSharedMemoryRegisterRequest),
        system_shared_memory_unregister(SystemSharedMemoryUnregisterRequest),
        cuda_shared_memory_status(CudaSharedMemoryStatusRequest),
        cuda_shared_memory_register(CudaSharedMemoryRegisterRequest),
        cuda_shared_memory_unregister(CudaSharedMemoryUnregisterRequest),
    );
    unserved!("configuration":
        trace_setting(TraceSettingRequest),
        log_settings(LogSettingsRequest),
    );

    let metadata = within(client.server_metadata(ServerMetadataRequest {})).await;
    let extensions = metadata.unwrap().into_inner().extensions;
    for word in [
        "shared_memory",
        "trace",
        "logging",
        // That of Load and Unload.
        "model_repository",
        "classification",
    ] {
        let promised = extensions.iter().find(|extension| extension.contains(word));
        assert_eq!(promised, None);
    }
    serves_on(server).await;
}

#[tokio::test]
async fn an_output_by_classification_is_unimplemented_unless_it_asks_for_no_class() {
    let asking_for = |classes| {
        let mut message = super::good("classes");
        let parameter = InferParameter {
            parameter_choice: Some(infer_parameter::ParameterChoice::Int64Param(classes)),
        };
        message.outputs = vec![model_infer_request::InferRequestedOutputTensor {
            name: "OUTPUT0".to_owned(),
            parameters: [("classification".to_owned(), parameter)].into(),
        }];
        message
    };
    let text = "output 'OUTPUT0' is asked for by classification";
    super::refuses(asking_for(3), Code::Unimplemented, text).await;
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut service = server.service().await;
    within(service.model_infer(asking_for(0))).await.unwrap();
    serves_on(server).await;
}

#[tokio::test]
async fn a_tensor_in_shared_memory_is_unimplemented() {
    let mut message = super::good("shm");
    let region = InferParameter {
        parameter_choice: Some(infer_parameter::ParameterChoice::StringParam("r".into())),
    };
    message.inputs[0].parameters = [("shared_memory_region".to_owned(), region)].into();
    super::refuses(message, Code::Unimplemented, "'INPUT0' is in shared memory").await;
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_unimplemented() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut client = server.raw().await;
    let mut call = client.call("ModelTrain", &[]);
    call.send(forebay_tests::harness::prefix(0).to_vec(), true);
    assert_eq!(call.ended().await.code(), Code::Unimplemented);
    serves_on(server).await;
}
