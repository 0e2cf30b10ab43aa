//! Streams a recording to the model as one sequence, and finds speech in what comes back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use forebay_client::{Client, Request, Session, StreamOptions, Ticket, tensor};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use crate::segments::{CHUNK, SAMPLE_RATE, Segment, Segmenter};

const CHUNK_SAMPLES: usize = CHUNK as usize;
const CHUNK_TIME: Duration = Duration::from_millis(CHUNK as u64 * 1000 / SAMPLE_RATE as u64);
/// How far sending may run ahead of the answers.
const CHUNKS_AHEAD: usize = 256;

/// Sends `samples` to `model` on one stream, in real time if `paced`, and calls `found` with each
/// segment of speech once it is over.
///
/// # Errors
/// The stream or one of its requests failed, or the model is not of this kind.
pub(crate) async fn detect(
    client: &Client,
    model: &str,
    samples: &[f32],
    paced: bool,
    mut found: impl FnMut(Segment) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let options = StreamOptions::default().with_requests_in_flight(CHUNKS_AHEAD);
    let session = client.stream(options).await?;
    let (tickets, mut answers) = mpsc::channel(CHUNKS_AHEAD);
    let send = send(session, model, samples, paced, tickets);
    let receive = async {
        let mut segmenter = Segmenter::default();
        while let Some(ticket) = answers.recv().await {
            if let Some(segment) = segmenter.push(probability(ticket).await?) {
                found(segment)?;
            }
        }
        if let Some(segment) = segmenter.finish(samples.len() as u64) {
            found(segment)?;
        }
        Ok(())
    };
    tokio::try_join!(send, receive)?;
    Ok(())
}

async fn send(
    session: Session,
    model: &str,
    samples: &[f32],
    paced: bool,
    tickets: mpsc::Sender<Ticket>,
) -> anyhow::Result<()> {
    let sequence = SystemTime::now().duration_since(UNIX_EPOCH)?;
    // Another one for each run, and never 0, which would be no sequence.
    let sequence = sequence.as_secs() << 20 | u64::from(sequence.subsec_micros()) | 1;
    let mut clock = tokio::time::interval(CHUNK_TIME);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let last = samples.len().div_ceil(CHUNK_SAMPLES).saturating_sub(1);
    for (index, chunk) in samples.chunks(CHUNK_SAMPLES).enumerate() {
        if paced {
            clock.tick().await;
        }
        let mut padded = [0.0; CHUNK_SAMPLES];
        padded[..chunk.len()].copy_from_slice(chunk);
        let request = Request::new(model)
            .with_input(tensor::from_slice("x", &padded, [1, i64::from(CHUNK)])?)
            .with_input(tensor::from_slice("sr", &[i64::from(SAMPLE_RATE)], [1])?)
            .with_sequence(sequence, index == 0, index == last);
        let ticket = session.submit(request).await?;
        if tickets.send(ticket).await.is_err() {
            // The receiving side has failed, and says why.
            return Ok(());
        }
    }
    drop(tickets);
    Ok(session.close().await?)
}

async fn probability(ticket: Ticket) -> anyhow::Result<f32> {
    let reply = ticket.await?;
    let output = reply
        .outputs()
        .first()
        .context("read the model's first output")?;
    let values: Vec<f32> = tensor::to_vec(output)?;
    values
        .first()
        .copied()
        .context("read the probability of speech")
}
