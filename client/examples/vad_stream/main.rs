//! Finds speech in a recording while it is streamed to a server.
//!
//! `cargo run -p forebay-client --example vad_stream -- --model silero_vad speech.wav`
//!
//! One stream, one sequence: each chunk of 32 ms is a request, and the model on the server keeps
//! what it heard before.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Parser;
use forebay_client::Client;

mod detect;
mod segments;
mod wav;

#[derive(Parser)]
struct Flags {
    /// Where the server listens.
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    endpoint: String,
    /// The model, which must be Silero's or work alike.
    #[arg(long, default_value = "silero_vad")]
    model: String,
    /// Writes the segments to this file, as [[start, end], ...] in seconds.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Sends in real time, as a microphone would.
    #[arg(long)]
    paced: bool,
    /// A WAV file: 16 kHz, mono, 16-bit PCM.
    wav: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let wav = flags.wav.display();
    let bytes = fs::read(&flags.wav).with_context(|| format!("read {wav}"))?;
    let samples = wav::samples(&bytes).with_context(|| format!("read {wav}"))?;
    let client = Client::connect(&flags.endpoint).await?;

    let mut found = Vec::new();
    detect::detect(&client, &flags.model, &samples, flags.paced, |segment| {
        let [start, end] = segment.seconds();
        writeln!(io::stdout(), "speech from {start:.3} s to {end:.3} s")?;
        found.push([start, end]);
        Ok(())
    })
    .await?;

    if let Some(path) = flags.json {
        let json = serde_json::to_vec(&found).context("write the segments as JSON")?;
        fs::write(&path, json).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
