//! What models compute, and which of their outputs come back.

use forebay_client::{Code, InferError, Reply, Request, StreamOptions, Tensor, tensor};
use forebay_tests::{
    harness::{TestServer, within},
    models::Fixture,
};

/// Asks on a call and on a stream, which must agree.
async fn ask(server: &TestServer, request: Request) -> Result<Reply, InferError> {
    let client = server.client().await;
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let ticket = session.submit(request.clone()).await.unwrap();
    let (streamed, called) = (within(ticket).await, within(client.infer(request)).await);
    match (&streamed, &called) {
        (Ok(streamed), Ok(called)) => assert_eq!(streamed.outputs(), called.outputs()),
        (Err(streamed), Err(called)) => assert_eq!(streamed.to_string(), called.to_string()),
        (streamed, called) => panic!("{streamed:?} is not {called:?}"),
    }
    within(session.close()).await.unwrap();
    called
}

fn simple(rows: i64) -> Request {
    let length = rows * 16;
    let first: Vec<i32> = (0..).take(usize::try_from(length).unwrap()).collect();
    let second = vec![100; first.len()];
    Request::new("simple")
        .with_input(tensor::from_slice("INPUT0", &first, [rows, 16]).unwrap())
        .with_input(tensor::from_slice("INPUT1", &second, [rows, 16]).unwrap())
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor::to_vec(tensor).unwrap()
}

#[tokio::test]
async fn integers_are_added_and_subtracted() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let reply = ask(&server, simple(3).with_id("three")).await.unwrap();
    assert_eq!(
        (reply.model_name(), reply.model_version(), reply.id()),
        ("simple", "1", "three")
    );
    let sum = reply.output("OUTPUT0").unwrap();
    assert_eq!(sum.shape().dims(), [3, 16]);
    let values: Vec<i32> = tensor::to_vec(sum).unwrap();
    assert_eq!(values, (100..148).collect::<Vec<_>>());
    let values: Vec<i32> = tensor::to_vec(reply.output("OUTPUT1").unwrap()).unwrap();
    assert_eq!(values, (-100..-52).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test]
async fn inputs_may_come_in_any_order() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let request = Request::new("simple")
        .with_input(tensor::from_slice("INPUT1", &[1i32; 16], [1, 16]).unwrap())
        .with_input(tensor::from_slice("INPUT0", &[5i32; 16], [1, 16]).unwrap());
    let reply = ask(&server, request).await.unwrap();
    let values: Vec<i32> = tensor::to_vec(reply.output("OUTPUT1").unwrap()).unwrap();
    assert_eq!(values, [4; 16]);
    server.stop().await;
}

#[tokio::test]
async fn outputs_come_as_they_were_asked_for() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    for asked in [
        vec!["OUTPUT1", "OUTPUT0"],
        vec!["OUTPUT0", "OUTPUT1"],
        vec!["OUTPUT1"],
    ] {
        let request = asked
            .iter()
            .fold(simple(1), |request, &name| request.with_output(name));
        let reply = ask(&server, request).await.unwrap();
        let names: Vec<&str> = reply.outputs().iter().map(Tensor::name).collect();
        assert_eq!(names, asked);
        let last: Vec<i32> = tensor::to_vec(reply.output("OUTPUT1").unwrap()).unwrap();
        assert_eq!(last, (-100..-84).collect::<Vec<_>>());
    }
    server.stop().await;
}

#[tokio::test]
async fn scalar_arguments_take_tensors_of_one_element() {
    let server = TestServer::start(&[Fixture::Scaled]).await;
    for (negate, expected) in [(false, [8.0, 16.0]), (true, [-8.0, -16.0])] {
        let request = Request::new("scaled")
            .with_input(tensor::from_slice("x", &[1.0f32, 2.0], [2]).unwrap())
            .with_input(tensor::from_slice("times", &[3i64], [1]).unwrap())
            .with_input(tensor::from_slice("by", &[2.0f32], [1]).unwrap())
            .with_input(tensor::from_slice("negate", &[negate], [1]).unwrap());
        let reply = ask(&server, request).await.unwrap();
        assert_eq!(floats(&reply.outputs()[0]), expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn strings_reach_the_model_and_come_back() {
    let server = TestServer::start(&[Fixture::Strings]).await;
    let texts = tensor::from_strings("text", &["ab", "", "C3"], [3]).unwrap();
    let request = Request::new("strings").with_input(texts);
    let reply = ask(&server, request).await.unwrap();
    let texts = tensor::to_strings(&reply.outputs()[0]).unwrap();
    assert_eq!(texts, ["AB", "", "C3"]);
    server.stop().await;
}

#[tokio::test]
async fn strings_that_a_model_cannot_take_are_the_callers_fault() {
    let server = TestServer::start(&[Fixture::Strings]).await;
    let texts = tensor::from_strings("text", &[[0xffu8]], [1]).unwrap();
    let error = ask(&server, Request::new("strings").with_input(texts)).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().contains("'text'"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_traced_network_computes_each_row_by_itself() {
    let server = TestServer::start(&[Fixture::Mlp]).await;
    let row = |seed: u8| (0..784u16).map(move |i| f32::from((i * u16::from(seed)) % 17) / 17.0);
    let request = |rows: &[u8]| {
        let values: Vec<f32> = rows.iter().copied().flat_map(row).collect();
        let rows = i64::try_from(rows.len()).unwrap();
        let input = tensor::from_slice("INPUT__0", &values, [rows, 784]).unwrap();
        Request::new("mlp").with_input(input)
    };
    let client = server.client().await;
    let ask = async |rows: &[u8]| {
        let reply = within(client.infer(request(rows))).await.unwrap();
        floats(&reply.outputs()[0])
    };
    let together = ask(&[1, 2, 3]).await;
    for (index, seed) in [1, 2, 3].into_iter().enumerate() {
        // Sums of another batch size are added up in another order.
        for (a, b) in ask(&[seed]).await.iter().zip(&together[index * 10..]) {
            assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{a} is not {b}");
        }
    }
    server.stop().await;
}
