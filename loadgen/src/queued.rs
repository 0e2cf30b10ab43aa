//! `loadgen async`: how far submitting work is from having it done.
//!
//! Who submits gets control back at once. A clock that is stopped then has measured the queueing
//! and nothing else; this shows both times side by side, with the server's own.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result, ensure};
use forebay_client::{Client, ServerTimings, StreamOptions};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{
    cli::QueuedArgs,
    clock,
    output::ReportFile,
    payload::{Options, Pool},
};

/// The schema's name and number.
pub const SCHEMA: &str = "forebay-async/1";

/// What it took to submit requests, and to have them done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The model.
    pub model: String,
    /// Requests.
    pub requests: usize,
    /// Until the last was submitted.
    pub queued_ms: f64,
    /// Until the last was handed to the transport.
    pub sent_ms: f64,
    /// Until the last was answered.
    pub done_ms: f64,
    /// Sums over the requests as the server accounts for them; null where it does not.
    pub server: Option<ServerSums>,
}

/// Stage times added up over requests.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ServerSums {
    /// Waiting for a batch and for the device.
    pub queue_ms: f64,
    /// Of that, waiting for the model's weights.
    #[serde(default)]
    pub residency_ms: f64,
    /// Of that, for how long inputs were left on disk.
    #[serde(default)]
    pub parked_ms: f64,
    /// Of that, how long their ways back took.
    #[serde(default)]
    pub onboard_ms: f64,
    /// Copying inputs to the device.
    pub h2d_ms: f64,
    /// Running the model.
    pub compute_ms: f64,
    /// Copying outputs to the host.
    pub d2h_ms: f64,
}

/// Submits requests on a stream, after one for warm-up, and waits for all of them.
///
/// # Errors
/// The server cannot be reached, the model is not there, or a request fails.
pub async fn run(args: &QueuedArgs) -> Result<Report> {
    let client = Client::connect(&args.endpoint)
        .await
        .with_context(|| format!("connect to {}", args.endpoint))?;
    let model = client
        .model_metadata(&args.model)
        .await
        .with_context(|| format!("ask for the inputs of model '{}'", args.model))?;
    let options = Options {
        variants: args.requests,
        ..Options::default()
    };
    let pool = Pool::build(&model, &options).context("make the payloads")?;
    let requests = (0..args.requests as u64).map(|number| {
        let request = pool.request(number, None).with_server_timings();
        request.with_id(number.to_string())
    });
    let requests: Vec<_> = requests.collect();
    let limits = StreamOptions::default()
        .with_requests_in_flight(args.requests)
        .with_bytes_in_flight((args.requests * pool.bytes()).max(1));
    let session = client.stream(limits).await.context("open a stream")?;
    let warmup = session.submit(requests[0].clone()).await?;
    timeout(args.timeout, warmup)
        .await
        .context("wait for the warm-up")??;

    let start = clock::now();
    let mut tickets = Vec::with_capacity(requests.len());
    for request in requests {
        tickets.push(session.submit(request).await?);
    }
    let queued = clock::now() - start;
    let (mut sent, mut done) = (start, start);
    let mut server = Some(ServerSums::default());
    for ticket in tickets {
        let left = args.timeout.saturating_sub(clock::now() - start);
        let reply = timeout(left, ticket)
            .await
            .context("wait for the answers")??;
        sent = sent.max(reply.timings().sent);
        done = done.max(reply.timings().done);
        server = server.zip(reply.server_timings()).map(ServerSums::with);
    }
    let report = Report {
        schema: SCHEMA.to_owned(),
        model: args.model.clone(),
        requests: args.requests,
        queued_ms: millis(queued),
        sent_ms: millis(sent - start),
        done_ms: millis(done - start),
        server,
    };
    ensure!(
        report.queued_ms <= report.done_ms,
        "answers came before the requests were submitted"
    );
    Ok(report)
}

/// Writes the report to the file `json`, if there is one, and as text to `terminal`.
///
/// # Errors
/// The file or the terminal cannot be written; the other is.
pub fn write(report: &Report, json: Option<ReportFile>, terminal: &mut impl Write) -> Result<()> {
    let printed = write!(terminal, "{}", text(report)).context("print the report");
    printed.and(ReportFile::write_json(json, report))
}

/// Returns the report for people.
fn text(report: &Report) -> String {
    let Report {
        model,
        requests,
        queued_ms: queued,
        sent_ms: sent,
        done_ms: done,
        ..
    } = report;
    let server = match report.server {
        None => "the server does not say where the time went".to_owned(),
        Some(sums) => format!(
            "in the server, ms, added up: queue {:.3} (weights {:.3}, on disk {:.3}, back {:.3}), \
             h2d {:.3}, compute {:.3}, d2h {:.3}",
            sums.queue_ms,
            sums.residency_ms,
            sums.parked_ms,
            sums.onboard_ms,
            sums.h2d_ms,
            sums.compute_ms,
            sums.d2h_ms
        ),
    };
    format!(
        "{requests} requests to {model} on one stream\n\
         queued  {queued:10.3} ms   all were submitted\n\
         sent    {sent:10.3} ms   all were handed to the transport\n\
         done    {done:10.3} ms   all were answered\n\
         {server}\n\
         Submitting returned {:.1} times sooner than the work was done: a clock that is stopped \
         when requests are queued has timed the queue, not the work.\n",
        done / queued.max(f64::MIN_POSITIVE)
    )
}

impl ServerSums {
    fn with((sums, one): (Self, ServerTimings)) -> Self {
        let disk = |time: Option<Duration>| millis(time.unwrap_or_default());
        Self {
            queue_ms: sums.queue_ms + millis(one.queue),
            residency_ms: sums.residency_ms + millis(one.residency),
            parked_ms: sums.parked_ms + disk(one.parked),
            onboard_ms: sums.onboard_ms + disk(one.onboard),
            h2d_ms: sums.h2d_ms + millis(one.h2d),
            compute_ms: sums.compute_ms + millis(one.compute),
            d2h_ms: sums.d2h_ms + millis(one.d2h),
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_both_times_and_what_lies_between_them() {
        let report = Report {
            schema: SCHEMA.to_owned(),
            model: "product".to_owned(),
            requests: 10,
            queued_ms: 2.0,
            sent_ms: 7.5,
            done_ms: 59.0,
            server: None,
        };
        let told = text(&report);
        assert!(told.contains("queued       2.000 ms"), "{told}");
        assert!(told.contains("done        59.000 ms"), "{told}");
        assert!(told.contains("29.5 times sooner"), "{told}");
        assert!(told.contains("does not say"), "{told}");
    }
}
