//! More sequences than instances.

use forebay_client::{Client, Code, InferError};
use forebay_tests::harness::{LONG, TestServer, until};
use futures_util::future::try_join_all;

use super::{
    COUNTER, Fixture,
    Place::{End, Middle, Start},
    infer, one_instance,
};

/// Short enough to wait for, and long enough for a request to arrive within it.
const SHORT_IDLE_US: u64 = 200_000;

#[tokio::test]
async fn sequences_beyond_the_instances_are_all_answered_in_the_end() {
    let server = TestServer::start(&[Fixture::Counter]).await;
    let client = server.client().await;
    let whole = |sequence: u16| whole_sequence(client.clone(), sequence);
    try_join_all((1..=24).map(whole)).await.unwrap();
    server.stop().await;
}

/// Five requests, each of which finds exactly the state that the ones before it left.
async fn whole_sequence(client: Client, sequence: u16) -> Result<(), InferError> {
    let x = f32::from(sequence);
    for (count, place) in [
        (1.0, Start),
        (2.0, Middle),
        (3.0, Middle),
        (4.0, Middle),
        (5.0, End),
    ] {
        let found = infer(&client, sequence.into(), x, place).await?;
        assert_eq!(found, (count, count * x), "sequence {sequence}");
    }
    Ok(())
}

#[tokio::test]
async fn a_sequence_waits_until_another_ends() {
    let idle = u64::try_from(LONG.as_micros()).unwrap();
    let server = one_instance(idle).start().await;
    let client = server.client().await;
    infer(&client, 1, 1.0, Start).await.unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { infer(&client, 2, 10.0, Start).await }
    });
    until(|| server.model(COUNTER).scheduler.len() == 1).await;

    // The first sequence goes on meanwhile, past the one that waits.
    assert_eq!(infer(&client, 1, 1.0, Middle).await.unwrap(), (2.0, 2.0));
    assert_eq!(server.model(COUNTER).scheduler.len(), 1);
    assert_eq!(infer(&client, 1, 1.0, End).await.unwrap(), (3.0, 3.0));
    assert_eq!(waiting.await.unwrap().unwrap(), (1.0, 10.0));
    server.stop().await;
}

#[tokio::test]
async fn a_sequence_that_is_idle_for_too_long_gives_its_instance_away() {
    let server = one_instance(SHORT_IDLE_US).start().await;
    let client = server.client().await;
    infer(&client, 1, 1.0, Start).await.unwrap();
    // It is answered only because the first sequence, which did not end, is given up.
    assert_eq!(infer(&client, 2, 10.0, Start).await.unwrap(), (1.0, 10.0));
    let error = infer(&client, 1, 1.0, Middle).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    server.stop().await;
}
