//! The real target: a server, by calls or by streams.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use forebay_client::{Client, InferError, Reply, Request, Session, StreamOptions};
use tokio::sync::{RwLock, Semaphore};

use super::{Answer, Shot, Target};
use crate::{
    clock,
    payload::Pool,
    record::{Outcome, Stages},
};

/// Requests that may stay without an answer on a stream, beside those that the run waits for. One that
/// is given up leaves its room only when it is answered, for until then the server may be at it; with no
/// room but that, those after it would wait here, and be told as timed out without having been sent.
/// Each takes some hundred bytes of memory, its tensors none: those are the pool's.
const GIVEN_UP: usize = 1 << 16;

/// Sends the requests of a pool to a server.
#[derive(Debug)]
pub struct ClientTarget {
    pool: Pool,
    route: Route,
}

#[derive(Debug)]
enum Route {
    Unary(Client),
    Stream(Lanes),
}

/// How streams are opened.
#[derive(Debug, Clone, Copy)]
pub struct Streams {
    /// How many; requests take turns, and a sequence stays on one.
    pub count: usize,
    /// Requests in flight over all of them.
    pub max_in_flight: usize,
    /// Whether replies may overtake one another.
    pub completion_order: bool,
}

/// Streams, each of which is opened again by the next request when it has ended: servers end them when
/// their connection has reached its age. What was in flight fails, and the next ones wait, as calls do
/// for their connection.
#[derive(Debug)]
struct Lanes {
    client: Client,
    options: StreamOptions,
    lanes: Vec<RwLock<Arc<Session>>>,
    reopened: AtomicU64,
}

impl ClientTarget {
    /// Sends each request as a call of its own.
    pub fn unary(client: Client, pool: Pool) -> Self {
        Self {
            pool,
            route: Route::Unary(client),
        }
    }

    /// Opens streams, whose limits never hold back what the run allows in flight, also after many
    /// requests without an answer.
    ///
    /// # Errors
    /// A stream cannot be opened.
    pub async fn stream(client: &Client, pool: Pool, streams: Streams) -> Result<Self, InferError> {
        let most = |room: usize| room.min(Semaphore::MAX_PERMITS);
        let requests = most(streams.max_in_flight.saturating_add(GIVEN_UP));
        let bytes = most(requests.saturating_mul(pool.bytes().max(1)));
        let options = StreamOptions::default()
            .with_requests_in_flight(requests)
            .with_bytes_in_flight(bytes)
            .with_completion_order(streams.completion_order);
        let mut lanes = Vec::new();
        for _ in 0..streams.count.max(1) {
            let session = client.stream(options.clone()).await?;
            lanes.push(RwLock::new(Arc::new(session)));
        }
        let route = Route::Stream(Lanes {
            client: client.clone(),
            options,
            lanes,
            reopened: AtomicU64::new(0),
        });
        Ok(Self { pool, route })
    }

    /// Returns how often a stream was opened again.
    pub fn streams_reopened(&self) -> u64 {
        match &self.route {
            Route::Unary(_) => 0,
            Route::Stream(lanes) => lanes.reopened.load(Ordering::Relaxed),
        }
    }
}

impl Target for ClientTarget {
    async fn send(&self, shot: Shot) -> Answer {
        let mut request = self.pool.request(shot.number, shot.place);
        request.set_id(shot.number.to_string());
        match &self.route {
            Route::Unary(client) => answer(client.infer(request).await),
            Route::Stream(lanes) => {
                let turn = shot.place.map_or(shot.number, |place| place.sequence);
                lanes.send(turn, request).await
            }
        }
    }
}

impl Lanes {
    async fn send(&self, turn: u64, request: Request) -> Answer {
        let index = usize::try_from(turn % self.lanes.len() as u64).unwrap_or_default();
        let lane = &self.lanes[index];
        let reply = match self.session(lane).await {
            Ok(session) => match session.submit(request).await {
                Ok(ticket) => ticket.await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        answer(reply)
    }

    /// Returns the stream of a lane, opened again if it has ended.
    async fn session(&self, lane: &RwLock<Arc<Session>>) -> Result<Arc<Session>, InferError> {
        let session = Arc::clone(&*lane.read().await);
        if !session.has_ended() {
            return Ok(session);
        }
        let mut session = lane.write().await;
        // Another request may have opened it meanwhile.
        if session.has_ended() {
            *session = Arc::new(self.client.stream(self.options.clone()).await?);
            self.reopened.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Arc::clone(&session))
    }
}

fn answer(reply: Result<Reply, InferError>) -> Answer {
    match reply {
        Ok(reply) => answered(&reply),
        Err(error) => failed(&error),
    }
}

fn answered(reply: &Reply) -> Answer {
    let timings = reply.timings();
    Answer {
        sent: Some(timings.sent),
        first: Some(timings.first_byte),
        done: timings.done,
        outcome: Outcome::Ok,
        stages: reply.server_timings().map(Stages::from),
    }
}

fn failed(error: &InferError) -> Answer {
    Answer {
        sent: None,
        first: None,
        done: clock::now(),
        outcome: match error {
            InferError::DeadlineExceeded { .. } => Outcome::TimedOut,
            // Also DEADLINE_EXCEEDED: a server's limit may be shorter, and then that is its answer.
            error => Outcome::Failed(error.code()),
        },
        stages: None,
    }
}
