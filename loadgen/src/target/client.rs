//! The real target: a server, by calls or by streams.

use forebay_client::{Client, Code, InferError, Reply, Session, StreamOptions};

use super::{Answer, Shot, Target};
use crate::{
    clock,
    payload::Pool,
    record::{Outcome, Stages},
};

/// Sends the requests of a pool to a server.
#[derive(Debug)]
pub struct ClientTarget {
    pool: Pool,
    route: Route,
}

#[derive(Debug)]
enum Route {
    Unary(Client),
    Stream(Vec<Session>),
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

impl ClientTarget {
    /// Sends each request as a call of its own.
    pub fn unary(client: Client, pool: Pool) -> Self {
        Self {
            pool,
            route: Route::Unary(client),
        }
    }

    /// Opens streams, whose limits never hold back what the run allows in flight.
    ///
    /// # Errors
    /// A stream cannot be opened.
    pub async fn stream(client: &Client, pool: Pool, streams: Streams) -> Result<Self, InferError> {
        let in_flight = streams.max_in_flight.max(1);
        let options = StreamOptions::default()
            .with_requests_in_flight(in_flight)
            .with_bytes_in_flight(in_flight.saturating_mul(pool.bytes().max(1)))
            .with_completion_order(streams.completion_order);
        let mut sessions = Vec::new();
        for _ in 0..streams.count.max(1) {
            sessions.push(client.stream(options.clone()).await?);
        }
        Ok(Self {
            pool,
            route: Route::Stream(sessions),
        })
    }

    async fn infer(&self, shot: Shot) -> Result<Reply, InferError> {
        let mut request = self.pool.request(shot.number, shot.place);
        request.set_id(shot.number.to_string());
        match &self.route {
            Route::Unary(client) => client.infer(request).await,
            Route::Stream(sessions) => {
                let turn = shot.place.map_or(shot.number, |place| place.sequence);
                let index = usize::try_from(turn % sessions.len() as u64).unwrap_or_default();
                sessions[index].submit(request).await?.await
            }
        }
    }
}

impl Target for ClientTarget {
    async fn send(&self, shot: Shot) -> Answer {
        match self.infer(shot).await {
            Ok(reply) => answered(&reply),
            Err(error) => failed(&error),
        }
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
        outcome: match error.code() {
            Code::DeadlineExceeded => Outcome::TimedOut,
            code => Outcome::Failed(code),
        },
        stages: None,
    }
}
