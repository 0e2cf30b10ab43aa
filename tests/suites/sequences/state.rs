//! What a sequence remembers, and what it must not.

use std::fs;

use forebay_client::Code;
use forebay_tests::harness::{LONG, TestServer, until};

use super::{
    COUNTER, Fixture,
    Place::{End, Middle, Start},
    infer, named_step, one_instance, state, step,
};

#[tokio::test]
async fn a_sequence_remembers_until_it_starts_anew() {
    let server = TestServer::start(&[Fixture::Counter, Fixture::CounterPlain]).await;
    let client = server.client().await;
    // One has `reset_states`, the other is loaded anew.
    for model in ["counter", "counter_plain"] {
        let steps = [
            (1.0, Start, (1.0, 1.0)),
            (2.0, Middle, (2.0, 3.0)),
            (3.0, Middle, (3.0, 6.0)),
            // A start without an end before it.
            (4.0, Start, (1.0, 4.0)),
            (5.0, End, (2.0, 9.0)),
            (6.0, Start, (1.0, 6.0)),
            (7.0, End, (2.0, 13.0)),
        ];
        for (x, place, expected) in steps {
            let reply = client.infer(step(model, 7, x, place)).await.unwrap();
            assert_eq!(state(&reply, x), expected, "{model} at {x}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn sequences_that_run_at_once_do_not_mix() {
    let server = TestServer::start(&[Fixture::Counter]).await;
    let client = server.client().await;
    for round in 1u8..=10 {
        let place = if round == 1 { Start } else { Middle };
        let count = f32::from(round);
        let (a, b) = tokio::join!(
            infer(&client, 1, 1.0, place),
            infer(&client, 2, 100.0, place)
        );
        assert_eq!(a.unwrap(), (count, count));
        assert_eq!(b.unwrap(), (count, 100.0 * count));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_number_and_a_text_name_different_sequences() {
    let server = TestServer::start(&[Fixture::Counter]).await;
    let client = server.client().await;
    for (place, count) in [(Start, 1.0), (Middle, 2.0), (End, 3.0)] {
        let number = client.infer(step(COUNTER, 5, 1.0, place)).await.unwrap();
        let text = named_step(COUNTER, "5", 10.0, place);
        let text = client.infer(text).await.unwrap();
        assert_eq!(state(&number, 1.0), (count, count));
        assert_eq!(state(&text, 10.0), (count, 10.0 * count));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_sequence_whose_start_was_cancelled_sees_nothing_of_another() {
    let idle = u64::try_from(LONG.as_micros()).unwrap();
    let server = one_instance(idle).start().await;
    let client = server.client().await;
    let queue = || server.model(COUNTER).scheduler.len();
    infer(&client, 1, 50.0, Start).await.unwrap();

    // The other sequence waits for the instance; its start gives up meanwhile.
    let start = tokio::spawn({
        let client = client.clone();
        async move { infer(&client, 2, 1.0, Start).await }
    });
    until(|| queue() == 1).await;
    let middle = tokio::spawn({
        let client = client.clone();
        async move { infer(&client, 2, 2.0, Middle).await }
    });
    until(|| queue() == 2).await;
    start.abort();
    until(|| queue() == 1).await;

    assert_eq!(infer(&client, 1, 50.0, End).await.unwrap(), (2.0, 100.0));
    assert_eq!(middle.await.unwrap().unwrap(), (1.0, 2.0));
    server.stop().await;
}

#[tokio::test]
async fn a_sequence_must_have_an_id_and_a_start() {
    let server = TestServer::start(&[Fixture::Counter]).await;
    let client = server.client().await;
    let refused = async |request, words: &str| {
        let error = client.infer(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    for place in [Middle, End] {
        refused(step(COUNTER, 1, 1.0, place), "START").await;
        refused(named_step(COUNTER, "one", 1.0, place), "START").await;
    }
    refused(step(COUNTER, 0, 1.0, Start), "correlation ID").await;
    refused(named_step(COUNTER, "", 1.0, Start), "correlation ID").await;

    infer(&client, 1, 1.0, Start).await.unwrap();
    infer(&client, 1, 1.0, End).await.unwrap();
    refused(step(COUNTER, 1, 1.0, Middle), "START").await;
    server.stop().await;
}

#[tokio::test]
async fn a_sequence_does_not_start_on_a_file_that_was_not_checked() {
    let server = TestServer::start(&[Fixture::CounterPlain]).await;
    let client = server.client().await;
    let start = async |id| client.infer(step("counter_plain", id, 1.0, Start)).await;
    start(1).await.unwrap();
    let file = server.repository().path().join("counter_plain/1/model.pt");
    let is_refused = async |says: &str| {
        let refused = start(1).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(refused.to_string().contains(says), "{refused}");
    };
    fs::write(&file, "half").unwrap();
    is_refused("is not the file").await;
    fs::remove_file(&file).unwrap();
    is_refused("cannot be read again").await;
    server.stop().await;
}
