//! One connection, from its first byte to its last.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::corked::{Corked, Together};
use super::preface::{self, Prefaced};
use super::tasks::{CallExecutor, Tasks};
use super::{Config, GrpcService, http2};

type Socket = Prefaced<TcpStream>;

type Http2<S> = hyper::server::conn::http2::Connection<
    TokioIo<Corked<Socket>>,
    TowerToHyperService<Tagged<S>>,
    CallExecutor,
>;

/// How long the drain waits for a preface that is on its way.
const LAST_PREFACES: Duration = Duration::from_millis(250);

/// Tells the streams of a connection, as an extension of their requests, when to read no more.
#[derive(Debug, Clone)]
pub struct Draining(pub CancellationToken);

/// Puts [`Draining`] into the extensions of each request.
#[derive(Debug, Clone)]
struct Tagged<S> {
    inner: S,
    draining: CancellationToken,
}

impl<S: GrpcService> Service<Request<Incoming>> for Tagged<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> S::Future {
        request
            .extensions_mut()
            .insert(Draining(self.draining.clone()));
        self.inner.call(request)
    }
}

/// What a connection needs to know of the rest.
#[derive(Debug)]
pub(super) struct Connection {
    peer: SocketAddr,
    config: Config,
    tasks: Tasks,
    drain: CancellationToken,
    abort: CancellationToken,
    max_age: Duration,
}

/// How the time of a connection was up.
#[derive(Debug)]
enum Finish {
    /// By itself, in good order or not.
    Ended(hyper::Result<()>),
    /// Its calls were still under way when there was no more time for them.
    Cut,
}

impl Connection {
    /// `nth` counts connections, to spread their ages.
    pub(super) fn new(config: &Config, tasks: &Tasks, peer: SocketAddr, nth: u64) -> Self {
        Self {
            peer,
            config: config.clone(),
            tasks: tasks.clone(),
            drain: tasks.drain_token(),
            abort: tasks.abort_token(),
            max_age: spread(config.max_connection_age, nth),
        }
    }

    pub(super) async fn run<S: GrpcService>(self, socket: TcpStream, service: S) {
        let Some(socket) = self.preface(socket).await else {
            return;
        };
        let draining = self.drain.child_token();
        let service = Tagged {
            inner: service,
            draining: draining.clone(),
        };
        let builder = http2::builder(&self.config, self.tasks.call_executor());
        let connection = Corked::new(socket).serve(|socket| {
            let service = TowerToHyperService::new(service);
            Box::pin(builder.serve_connection(TokioIo::new(socket), service))
        });
        match self.drive(connection, &draining).await {
            Finish::Ended(Ok(())) => {}
            Finish::Ended(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "connection failed");
            }
            Finish::Cut if self.drain.is_cancelled() => self.tasks.count_aborted(),
            Finish::Cut => tracing::debug!(peer = %self.peer, "connection cut at its age"),
        }
    }

    async fn preface(&self, socket: TcpStream) -> Option<Prefaced<TcpStream>> {
        let reading = timeout(self.config.preface_timeout, preface::read(socket));
        // Who connected just before the drain has its preface, and perhaps a call, on the way.
        let too_late = async {
            self.drain.cancelled().await;
            sleep(LAST_PREFACES).await;
        };
        let read = tokio::select! {
            read = reading => read,
            () = too_late => return None,
        };
        match read {
            Ok(Ok(socket)) => Some(socket),
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "connection without a preface");
                None
            }
            Err(_) => {
                tracing::debug!(peer = %self.peer, "connection sent no preface in time");
                None
            }
        }
    }

    async fn drive<S: GrpcService>(
        &self,
        mut connection: Together<Pin<Box<Http2<S>>>, Socket>,
        draining: &CancellationToken,
    ) -> Finish {
        let is_old = tokio::select! {
            result = &mut connection => return Finish::Ended(result),
            () = self.drain.cancelled() => false,
            () = sleep(self.max_age) => true,
        };
        // No new calls, and streams answer what they have read and end.
        connection.connection().as_mut().graceful_shutdown();
        draining.cancel();
        let no_more_time = async {
            if is_old {
                let grace = sleep(self.config.max_connection_age_grace);
                if self.drain.run_until_cancelled(grace).await.is_some() {
                    return;
                }
            }
            self.abort.cancelled().await;
        };
        tokio::select! {
            result = &mut connection => Finish::Ended(result),
            () = no_more_time => Finish::Cut,
        }
    }
}

/// Returns `age` give or take a tenth. Successive connections land far from each other, so that
/// clients that came together do not all come back together.
fn spread(age: Duration, nth: u64) -> Duration {
    // Multiples of the golden ratio fill the range evenly, wherever the counting stops.
    let hash = nth.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let fraction = f64::from(u32::try_from(hash).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    Duration::try_from_secs_f64(age.as_secs_f64() * (0.9 + 0.2 * fraction)).unwrap_or(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_lie_within_a_tenth_and_apart() {
        let mut ages: Vec<_> = (0..100)
            .map(|n| spread(Duration::from_secs(1000), n))
            .collect();
        ages.sort();
        assert!(ages[0] >= Duration::from_secs(899) && ages[99] <= Duration::from_secs(1101));
        for pair in ages.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(
                gap > Duration::from_millis(500) && gap < Duration::from_secs(5),
                "{gap:?}"
            );
        }
    }
}
