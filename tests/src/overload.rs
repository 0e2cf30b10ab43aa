//! More requests at once than memory holds, and what becomes of them: what `benches/overload.rs`
//! measures and the suite `overflow` checks.
//!
//! Each request has content of its own, and its answer is a digest of that, so that a request whose
//! tensor was mixed up with another's is found out.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use forebay_client::{Client, InferError, Request, StreamOptions, tensor};
use forebay_proto::{DataType, Shape, Tensor};
use futures_util::future::try_join_all;

use crate::{
    harness::{Process, TestRepository},
    models::Fixture,
};

/// How many requests come at once, and how long each batch of 4 takes.
#[derive(Debug, Clone, Copy)]
pub struct Overload {
    /// The server's host budget in bytes.
    pub budget: u64,
    /// Streams that send at a time.
    pub streams: usize,
    /// Requests of each stream.
    pub requests: usize,
    /// Elements of a request, of 4 bytes each.
    pub elements: usize,
    /// Time of a forward pass.
    pub pass: Duration,
}

/// What became of them.
#[derive(Debug)]
pub struct Outcome {
    /// Requests with the right answer.
    pub right: usize,
    /// Requests with a wrong one.
    pub wrong: usize,
    /// Requests that were refused.
    pub refused: usize,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Most resident memory of the server beyond what it had before, in bytes.
    pub peak: u64,
}

impl Overload {
    /// Returns the bytes of all requests.
    pub fn bytes(&self) -> u64 {
        (self.streams * self.requests * self.elements * 4) as u64
    }

    /// Serves the model that digests, with `spill` in the section `[spill]`.
    pub async fn serve(&self, spill: &str) -> Process {
        let repository = TestRepository::default().with_fixtures(&[Fixture::Digest]);
        let millis = self.pass.as_millis();
        let toml = format!(
            "[admission]\nhost_bytes = {}\nmax_message_bytes = \"1 MiB\"\n[spill]\n{spill}\n\
             [device]\nkind = \"simulated\"\ncompute = \"{millis}ms\"\n\
             [transport]\nstream_window = \"256 KiB\"\n[scheduler]\nintra_op_threads = 1\n",
            self.budget
        );
        Process::start(repository, &toml).await
    }

    /// Sends everything at once and waits for all answers.
    ///
    /// # Errors
    /// The server goes away, or its memory cannot be read.
    pub async fn run(&self, server: &Process) -> anyhow::Result<Outcome> {
        let client = Client::builder(server.endpoint())
            .with_connections(self.streams)
            .connect()
            .await?;
        // Buffers of the way in and out are the server's own, whatever the load.
        self.stream(&client, 0, 8).await?;
        let process = Path::new("/proc").join(server.id().to_string());
        let before = memory(&process, "VmRSS")?;
        // Counts the peak from here on.
        fs::write(process.join("clear_refs"), "5").context("reset the peak")?;
        let began = Instant::now();
        let streams = (0..self.streams).map(|nth| self.stream(&client, nth, self.requests));
        let counts = try_join_all(streams).await?;
        let took = began.elapsed();
        let sum = |of: fn(&Counts) -> usize| counts.iter().map(of).sum();
        Ok(Outcome {
            right: sum(|counts| counts.right),
            wrong: sum(|counts| counts.wrong),
            refused: sum(|counts| counts.refused),
            took,
            peak: memory(&process, "VmHWM")?.saturating_sub(before),
        })
    }

    async fn stream(&self, client: &Client, nth: usize, requests: usize) -> anyhow::Result<Counts> {
        let options = StreamOptions::default()
            .with_requests_in_flight(requests)
            .with_bytes_in_flight(requests * (self.elements * 4 + 1024));
        let session = client.stream(options).await?;
        let mut tickets = Vec::new();
        let first = nth * self.requests;
        for seed in first..first + requests {
            let (tensor, digest) = self.tensor(seed)?;
            let request = Request::new(Fixture::Digest.name()).with_input(tensor);
            tickets.push((session.submit(request).await?, digest));
        }
        let mut counts = Counts::default();
        for (ticket, digest) in tickets {
            match ticket.await {
                Ok(reply) => {
                    let output = reply.output("digest").context("it has an output")?;
                    match tensor::to_vec::<i64>(output)?[..] == [digest] {
                        true => counts.right += 1,
                        false => counts.wrong += 1,
                    }
                }
                Err(InferError::Failed { .. }) => counts.refused += 1,
                Err(error) => return Err(error.into()),
            }
        }
        session.close().await?;
        Ok(counts)
    }

    /// Returns the tensor of a request and its digest. Quick, also where nothing is optimised: the
    /// elements all are the seed, save for one.
    fn tensor(&self, seed: usize) -> anyhow::Result<(Tensor, i64)> {
        let places = i64::try_from(self.elements)?;
        let (odd, seed) = (seed % self.elements, i32::try_from(seed)?);
        let mut bytes = seed.to_le_bytes().repeat(self.elements);
        bytes[odd * 4..][..4].copy_from_slice(&(seed + 1).to_le_bytes());
        let digest = i64::from(seed) * (places * (places + 1) / 2) + i64::try_from(odd)? + 1;
        let shape = Shape::new(vec![1, places])?;
        let tensor = Tensor::new("x", DataType::Int32, shape, bytes)?;
        Ok((tensor, digest))
    }
}

#[derive(Debug, Default)]
struct Counts {
    right: usize,
    wrong: usize,
    refused: usize,
}

/// Reads a figure in KiB of a process, in bytes.
fn memory(process: &Path, what: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(process.join("status")).context("read the process's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let figure = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    let kib: u64 = figure.context("the status has the figure")?.parse()?;
    ensure!(kib > 0, "{what} of the server is zero");
    Ok(kib * 1024)
}
