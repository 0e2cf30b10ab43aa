//! The streaming example, against a model that takes loudness for speech.

use crate::{
    detect::detect,
    scripted::{Server, soon},
    segments::{CHUNK, Segment},
};

#[tokio::test]
async fn finds_segments_over_one_sequence() {
    let server = Server::start();
    let client = server.client().await;
    let run = |chunks: u32, loudness: f32| vec![loudness; (chunks * CHUNK) as usize];
    // The last chunk is cut, and so padded.
    let mut samples = [run(400, 0.0), run(40, 0.9), run(30, 0.0), run(20, 0.8)].concat();
    samples.truncate(samples.len() - 100);
    let mut found = Vec::new();
    let detection = detect(&client, "loudness", &samples, false, |segment| {
        found.push(segment);
        Ok(())
    });
    soon(detection).await.unwrap();
    let expected = [
        (400 * 512 - 480, 440 * 512 + 480),
        (470 * 512 - 480, 490 * 512 - 100),
    ];
    assert_eq!(found, expected.map(|(start, end)| Segment { start, end }));
}

#[tokio::test]
async fn a_failed_chunk_ends_the_detection_with_its_reason() {
    let server = Server::start();
    let client = server.client().await;
    let samples = vec![f32::NAN; 4096];
    let detection = detect(&client, "loudness", &samples, false, |_| Ok(()));
    let error = soon(detection).await.unwrap_err();
    assert!(error.to_string().contains("as told"), "{error:?}");
}
