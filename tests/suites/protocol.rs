//! What clients may count on: every method of the protocol, seen from outside.

use forebay_client::{Request, tensor};
use forebay_tests::{harness::TestServer, models::Fixture};

#[tokio::test]
async fn a_server_on_a_port_of_its_own_answers_and_ends() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let client = server.client().await;
    let input = |name| tensor::from_slice(name, &[7i32; 16], [1, 16]).unwrap();
    let request = Request::new("simple")
        .with_input(input("INPUT0"))
        .with_input(input("INPUT1"));
    let reply = client.infer(request).await.unwrap();
    let sum: Vec<i32> = tensor::to_vec(reply.output("OUTPUT0").unwrap()).unwrap();
    assert_eq!(sum, [14; 16]);
    server.stop().await;
}
