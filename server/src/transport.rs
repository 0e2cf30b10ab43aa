//! From the listening socket to HTTP/2: who may connect, for how long, and how it ends.
//!
//! tonic's own server has no bound on connections, none on how long a peer may take to say that it
//! speaks HTTP/2, and none on how long an open stream may hold up a shutdown. This loop has, and
//! everything above it is plain tonic.
//!
//! Invariant: every task that it starts is tracked, and [`serve`] returns only when all have ended.

mod accept;
mod config;
mod connection;
mod corked;
mod files;
mod http2;
mod preface;
mod refusals;
mod slots;
mod tasks;

use std::convert::Infallible;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower_service::Service;

pub use config::Config;
pub use connection::Draining;
pub use files::with_files_for;

use accept::Acceptor;
use tasks::Tasks;

/// What is left to say when the last connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were let in.
    pub connections_accepted: u64,
    /// Connections that were closed at once, for want of room.
    pub connections_refused: u64,
    /// Connections that were cut because they had not ended when the drain was over.
    pub connections_aborted: u64,
}

/// What can be served: [`tonic::service::Routes`], and layers around it.
pub trait GrpcService:
    Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<S> GrpcService for S where
    S: Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// Serves `service` on `listener` until `shutdown` is cancelled, and then until the connections
/// have ended or `config.drain_timeout` has passed, whichever is first.
///
/// # Cancel safety
/// Dropping the future cuts all connections.
pub async fn serve<S: GrpcService>(
    listener: TcpListener,
    service: S,
    config: &Config,
    shutdown: CancellationToken,
) -> Drained {
    let tasks = Tasks::new(shutdown.child_token());
    let _ended_if_dropped = tasks.drain_token().drop_guard();
    let _cut_if_dropped = tasks.abort_token().drop_guard();
    let mut acceptor = Acceptor::new(listener, service, config.clone(), tasks.clone());
    acceptor.run().await;
    let (connections_accepted, connections_refused) = acceptor.close();

    tracing::info!(timeout = ?config.drain_timeout, "draining connections");
    tasks.close();
    if timeout(config.drain_timeout, tasks.ended()).await.is_err() {
        tasks.abort();
        tasks.ended().await;
    }
    Drained {
        connections_accepted,
        connections_refused,
        connections_aborted: tasks.aborted(),
    }
}
