//! Sends requests at once and waits for all answers, while the server is asked how busy it is.
//!
//! Invariant: requests are whole before the clock starts, and no limit of ours holds one back, so
//! all are due, and counted from, the same moment. Nothing is waited for beyond the deadline.

use std::time::{Duration, Instant};

use forebay_client::{
    Client, InferError, PipelineStatistics, Reply, Request, Session, StreamOptions, Ticket,
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout_at},
};

use super::cell::Repetition;
use crate::{clock, record::Stages};

/// How often the server is asked how busy the device is.
const SAMPLING: Duration = Duration::from_millis(100);

/// Time that it may take to tell of itself: without that, there still are figures.
const ASIDE: Duration = Duration::from_secs(2);

/// How a volley is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Streams that the requests are spread over.
    pub(super) streams: usize,
    /// When waiting ends.
    pub(super) deadline: Instant,
}

/// Sends `warmup`, waits for its answer, and then sends all of `requests`.
///
/// # Errors
/// No stream, or no answer to the request for warm-up.
pub(super) async fn fire(
    client: &Client,
    warmup: Request,
    requests: Vec<Request>,
    settings: Settings,
) -> Result<Repetition, String> {
    let opening = open(client, &requests, settings.streams);
    let sessions = timeout_at(settings.deadline.into(), opening)
        .await
        .map_err(|_| "no stream in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let model = warmup.model().to_owned();
    let mut repetition = warm_up(&sessions[0], warmup, settings.deadline).await?;
    let before = Counters::ask(client, &model, soon(settings.deadline)).await;
    let sampler = {
        let (client, model) = (client.clone(), model.clone());
        sample(move || utilisation(client.clone(), model.clone()))
    };
    let start = clock::now();
    let mut tickets = Vec::with_capacity(requests.len());
    for (place, request) in requests.into_iter().enumerate() {
        tickets.push(sessions[place % sessions.len()].submit(request).await);
    }
    for ticket in tickets {
        match answer(ticket, settings.deadline).await {
            Ok(reply) => {
                repetition.responses.push(reply.timings().done - start);
                repetition.stages.extend(stages(&reply));
            }
            Err(fault) => {
                repetition.failed += 1;
                repetition.failure.get_or_insert(fault);
            }
        }
    }
    repetition.utilisation = sampler.end().await;
    let after = Counters::ask(client, &model, soon(settings.deadline)).await;
    repetition.pipeline = after
        .pipeline
        .zip(before.pipeline)
        .and_then(|(after, before)| after.since(before));
    repetition.pinned_allocations = after
        .pinned_allocations
        .zip(before.pinned_allocations)
        .and_then(|(after, before)| after.checked_sub(before));
    Ok(repetition)
}

/// Returns until when the server may tell of itself, but not beyond `deadline`.
pub(super) fn soon(deadline: Instant) -> Instant {
    deadline.min(clock::now() + ASIDE)
}

/// Opens streams that take all requests at once, in any order of answers.
async fn open(
    client: &Client,
    requests: &[Request],
    count: usize,
) -> Result<Vec<Session>, InferError> {
    let bytes: usize = requests.iter().map(Request::bytes).sum();
    let options = StreamOptions::default()
        .with_requests_in_flight(requests.len().max(1))
        .with_bytes_in_flight(bytes.max(1))
        .with_completion_order(true);
    let mut sessions = Vec::new();
    for _ in 0..count.max(1) {
        sessions.push(client.stream(options.clone()).await?);
    }
    Ok(sessions)
}

async fn warm_up(
    session: &Session,
    request: Request,
    deadline: Instant,
) -> Result<Repetition, String> {
    let start = clock::now();
    let reply = answer(session.submit(request).await, deadline).await?;
    Ok(Repetition {
        warmup: Some(reply.timings().done - start),
        alone: stages(&reply),
        ..Repetition::default()
    })
}

async fn answer(ticket: Result<Ticket, InferError>, deadline: Instant) -> Result<Reply, String> {
    let ticket = ticket.map_err(|error| error.to_string())?;
    match timeout_at(deadline.into(), ticket).await {
        Ok(reply) => reply.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn stages(reply: &Reply) -> Option<Stages> {
    reply.server_timings().map(Stages::from)
}

/// What the server has counted so far, where it tells.
#[derive(Debug, Default)]
struct Counters {
    /// What the pipelines of the model did.
    pipeline: Option<PipelineStatistics>,
    /// Slabs of page-locked memory that were ever allocated, for all devices.
    pinned_allocations: Option<u64>,
}

impl Counters {
    async fn ask(client: &Client, model: &str, deadline: Instant) -> Self {
        let asked = timeout_at(deadline.into(), client.statistics(model)).await;
        let Ok(Ok(statistics)) = asked else {
            return Self::default();
        };
        let slabs = statistics.devices.iter().map(|one| one.pinned_allocations);
        Self {
            // One version is served unless a policy asks for more; then the sum would mix them.
            pipeline: match &statistics.models[..] {
                [only] => only.pipeline,
                _ => None,
            },
            pinned_allocations: slabs.reduce(|sum, one| sum + one),
        }
    }
}

/// Asks for the device's utilisation until it is told to end.
struct Sampler {
    task: JoinHandle<Vec<(Duration, u32)>>,
    end: tokio::sync::oneshot::Sender<()>,
}

/// Calls `ask` again and again. A call under way when it is told to end is given up.
fn sample<F>(mut ask: impl FnMut() -> F + Send + 'static) -> Sampler
where
    F: Future<Output = Option<u32>> + Send + 'static,
{
    let (end, mut ended) = tokio::sync::oneshot::channel();
    let start = clock::now();
    let task = tokio::spawn(async move {
        let mut told = Vec::new();
        let mut ticks = interval(SAMPLING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is now, when what the driver tells is of the time before.
        ticks.tick().await;
        loop {
            let asked = async {
                ticks.tick().await;
                ask().await
            };
            let percent = tokio::select! {
                biased;
                _ = &mut ended => return told,
                percent = asked => percent,
            };
            told.extend(percent.map(|percent| (clock::now() - start, percent)));
        }
    });
    Sampler { task, end }
}

/// Returns how many percent of its time the busiest device works, where a driver tells.
async fn utilisation(client: Client, model: String) -> Option<u32> {
    let statistics = client.statistics(model).await.ok()?;
    let devices = statistics.devices.iter();
    devices
        .filter_map(|device| device.utilization_percent)
        .max()
}

impl Sampler {
    async fn end(self) -> Vec<(Duration, u32)> {
        // Fails only where the task is gone, which then has nothing to tell.
        let _ = self.end.send(());
        self.task.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::{future, sync::Arc};

    use tokio::{sync::Notify, time::timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_never_answered_does_not_hold_up_the_end() {
        let asked = Arc::new(Notify::new());
        let told = Arc::clone(&asked);
        let sampler = sample(move || {
            told.notify_one();
            future::pending()
        });
        asked.notified().await;
        let ended = timeout(10 * ASIDE, sampler.end()).await;
        assert_eq!(ended, Ok(Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_beside_ends_with_the_deadline() {
        let now = clock::now();
        assert_eq!(soon(now + SAMPLING), now + SAMPLING);
        assert_eq!(soon(now + 2 * ASIDE), now + ASIDE);
    }
}
