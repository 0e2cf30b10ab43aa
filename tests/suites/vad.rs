//! A real model on real speech: Silero's voice activity detector, which keeps state from chunk to
//! chunk, against what its own Python package finds in the same recording.

use std::{env, fs, path::PathBuf};

use forebay_client::{Client, InferError, Request, StreamOptions, tensor};
use forebay_tests::harness::{TestServer, within};
use futures_util::future::try_join_all;
use serde::Deserialize;

use crate::{
    detect::detect,
    segments::{CHUNK, SAMPLE_RATE},
    wav,
};

const MODEL: &str = "silero_vad";
const CONFIG: &str = r#"
    name: "silero_vad"
    platform: "pytorch_libtorch"
    max_batch_size: 0
    input [
      { name: "x" data_type: TYPE_FP32 dims: [ 1, 512 ] },
      { name: "sr" data_type: TYPE_INT64 dims: [ 1 ] }
    ]
    output [ { name: "output" data_type: TYPE_FP32 dims: [ 1, 1 ] } ]
    sequence_batching { direct { } }
    instance_group [ { count: 2 kind: KIND_CPU } ]
"#;

const SPEECH: &[u8] = include_bytes!("../data/speech.wav");
/// One chunk: 32 ms.
const CHUNK_SECONDS: f64 = CHUNK as f64 / SAMPLE_RATE as f64;
const TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Segments {
    segments: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    start_seconds: f64,
    end_seconds: f64,
}

#[derive(Deserialize)]
struct Probabilities {
    probabilities: Vec<f32>,
}

#[tokio::test]
async fn speech_is_found_where_the_reference_finds_it() {
    let server = server().await;
    let client = server.client().await;
    let (samples, mut found) = (speech(), Vec::new());
    let detecting = detect(&client, MODEL, &samples, false, |segment| {
        found.push(segment.seconds());
        Ok(())
    });
    within(detecting).await.unwrap();

    let reference: Segments =
        serde_json::from_str(include_str!("../data/speech_segments.json")).unwrap();
    assert_eq!(found.len(), reference.segments.len(), "{found:?}");
    for ([start, end], expected) in found.into_iter().zip(&reference.segments) {
        assert!((start - expected.start_seconds).abs() <= CHUNK_SECONDS);
        assert!((end - expected.end_seconds).abs() <= CHUNK_SECONDS);
    }
    server.stop().await;
}

#[tokio::test]
async fn each_chunk_has_the_probability_of_the_reference() {
    let server = server().await;
    let client = server.client().await;
    let found = within(probabilities(&client, 1)).await.unwrap();
    assert_reference(&found);
    server.stop().await;
}

#[tokio::test]
async fn a_second_recording_starts_from_a_clean_state() {
    let server = server().await;
    let client = server.client().await;
    // The first sequence is free again, so that the second one takes over the same instance.
    let first = within(probabilities(&client, 1)).await.unwrap();
    let second = within(probabilities(&client, 2)).await.unwrap();
    // Not `assert_eq`, which would print all of them.
    assert!(first == second, "the second recording sounds different");
    server.stop().await;
}

#[tokio::test]
async fn recordings_that_stream_at_once_are_heard_apart() {
    let server = server().await;
    let client = server.client().await;
    let streams = (1..=2).map(|sequence| probabilities(&client, sequence));
    let found = within(try_join_all(streams)).await.unwrap();
    for found in &found {
        assert_reference(found);
    }
    server.stop().await;
}

async fn server() -> TestServer {
    TestServer::builder()
        .with_model(MODEL, CONFIG, Some(&model()))
        .start()
        .await
}

/// Returns the model's file, which comes from a package registry and is not in the repository.
fn model() -> Vec<u8> {
    #[expect(
        clippy::disallowed_methods,
        reason = "`cargo xtask test` says there where it put what it fetched"
    )]
    let folder = env::var_os("FOREBAY_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache/models")),
        PathBuf::from,
    );
    let file = folder.join("silero_vad.jit");
    fs::read(&file).unwrap_or_else(|error| {
        panic!("{}: {error}: run `cargo xtask test`", file.display());
    })
}

fn speech() -> Vec<f32> {
    wav::samples(SPEECH).unwrap()
}

/// Streams the recording as the sequence `sequence`, and returns what is said of each chunk.
async fn probabilities(client: &Client, sequence: u64) -> Result<Vec<f32>, InferError> {
    let mut samples = speech();
    let chunk = usize::try_from(CHUNK).unwrap();
    samples.resize(samples.len().next_multiple_of(chunk), 0.0);
    let last = samples.len() / chunk - 1;
    let session = client.stream(StreamOptions::default()).await?;
    let mut tickets = Vec::with_capacity(last + 1);
    for (index, chunk) in samples.chunks(chunk).enumerate() {
        let request = Request::new(MODEL)
            .with_input(tensor::from_slice("x", chunk, [1, CHUNK.into()])?)
            .with_input(tensor::from_slice("sr", &[i64::from(SAMPLE_RATE)], [1])?)
            .with_sequence(sequence, index == 0, index == last);
        tickets.push(session.submit(request).await?);
    }
    let replies = try_join_all(tickets).await?;
    session.close().await?;
    let probability = |reply: &forebay_client::Reply| {
        tensor::to_vec::<f32>(reply.output("output").unwrap()).unwrap()[0]
    };
    Ok(replies.iter().map(probability).collect())
}

fn assert_reference(found: &[f32]) {
    let reference: Probabilities =
        serde_json::from_str(include_str!("../data/speech_probabilities.json")).unwrap();
    assert_eq!(found.len(), reference.probabilities.len());
    for (chunk, (found, expected)) in found.iter().zip(&reference.probabilities).enumerate() {
        assert!(
            (found - expected).abs() <= TOLERANCE,
            "chunk {chunk}: {found}, the reference says {expected}"
        );
    }
}
