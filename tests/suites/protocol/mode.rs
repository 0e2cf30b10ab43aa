//! A model's own mode of the executor.

use forebay_client::{BatchPaths, Request, tensor};
use forebay_tests::harness::{TestServer, echo, within};

fn parameter(mode: &str) -> String {
    format!(
        "max_batch_size: 4\n\
         parameters {{ key: \"FOREBAY_EXECUTOR_MODE\" value {{ string_value: \"{mode}\" }} }}"
    )
}

#[tokio::test]
async fn batches_go_the_way_that_their_model_names() {
    let server = TestServer::builder()
        .with_model("one", &echo("one", "TYPE_FP32", &parameter("inline")), None)
        .with_model(
            "three",
            &echo("three", "TYPE_FP32", &parameter("stages")),
            None,
        )
        .start()
        .await;
    let client = server.client().await;
    for (model, expected) in [
        (
            "one",
            BatchPaths {
                inline: 5,
                ..BatchPaths::default()
            },
        ),
        (
            "three",
            BatchPaths {
                staged: 5,
                ..BatchPaths::default()
            },
        ),
    ] {
        for _ in 0..5 {
            let input = tensor::from_slice("x", &[1.0f32, 2.0], [1, 2]).unwrap();
            let request = Request::new(model).with_input(input);
            within(client.infer(request)).await.unwrap();
        }
        let statistics = within(client.model_statistics(model)).await.unwrap();
        let batch = statistics[0].batches[0];
        assert_eq!(
            (batch.batch_size, batch.paths),
            (1, Some(expected)),
            "{model}"
        );
    }
}
