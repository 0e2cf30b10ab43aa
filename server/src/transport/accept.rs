//! Takes connections from the listener, within bounds, whatever errors come along.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::connection::Connection;
use super::http2::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use super::refusals::Refusals;
use super::slots::{Slot, Slots};
use super::tasks::Tasks;
use super::{Config, GrpcService};

/// Out of file descriptors or buffers, trying again at once would only burn a core.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Owns the listener.
#[derive(Debug)]
pub(super) struct Acceptor<S> {
    listener: TcpListener,
    service: S,
    config: Config,
    tasks: Tasks,
    slots: Slots,
    accepted: u64,
    refusals: Refusals,
    failures: Refusals,
}

impl<S: GrpcService> Acceptor<S> {
    pub(super) fn new(listener: TcpListener, service: S, config: Config, tasks: Tasks) -> Self {
        let slots = Slots::new(config.max_connections, config.max_connections_per_ip);
        Self {
            listener,
            service,
            config,
            tasks,
            slots,
            accepted: 0,
            refusals: Refusals::default(),
            failures: Refusals::default(),
        }
    }

    /// Accepts until the tasks are told to drain.
    pub(super) async fn run(&mut self) {
        let drain = self.tasks.drain_token();
        while let Some(accepted) = drain.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((socket, peer)) => self.admit(socket, peer),
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if let Some(count) = self.failures.count(Instant::now()) {
                        tracing::warn!(%error, count, "cannot accept connections; trying again");
                    }
                    drain
                        .run_until_cancelled(tokio::time::sleep(BACK_OFF))
                        .await;
                }
            }
        }
    }

    /// Lets in those who were connected before the drain began, and closes the listener. Closing it
    /// on them would reset connections on which calls may be under way already, as far as their
    /// clients know. Returns how many connections were let in and how many refused.
    pub(super) fn close(mut self) -> (u64, u64) {
        if let Ok(backlog) = SockRef::from(&self.listener).try_clone() {
            // The socket does not block, so this ends with the backlog.
            while let Ok((socket, peer)) = backlog.accept() {
                let socket = socket.set_nonblocking(true).map(|()| socket.into());
                if let (Ok(socket), Some(peer)) =
                    (socket.and_then(TcpStream::from_std), peer.as_socket())
                {
                    self.admit(socket, peer);
                }
            }
        }
        (self.accepted, self.refusals.total())
    }

    fn admit(&mut self, socket: TcpStream, peer: SocketAddr) {
        match self.slots.take(peer.ip()) {
            Ok(slot) => {
                self.accepted += 1;
                self.start(socket, peer, slot);
            }
            Err(full) => {
                if let Some(count) = self.refusals.count(Instant::now()) {
                    tracing::warn!(%peer, count, reason = %full, "connections refused");
                }
            }
        }
    }

    fn start(&self, socket: TcpStream, peer: SocketAddr, slot: Slot) {
        if let Err(error) = tune(&socket) {
            // A peer that has gone already; its connection ends by itself.
            tracing::debug!(%peer, %error, "cannot set socket options");
        }
        let connection = Connection::new(&self.config, &self.tasks, peer, self.accepted);
        let service = self.service.clone();
        self.tasks.spawn(async move {
            connection.run(socket, service).await;
            drop(slot);
        });
    }
}

/// A connection that failed before it was accepted says nothing about the next one.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    // Replies are written whole; waiting to fill a segment only adds latency.
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    // HTTP/2 pings find a dead peer first. The kernel's probes are for a task that cannot ping.
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_INTERVAL)
        .with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    // Bytes that nobody acknowledges are given up after the same time as a ping.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT))?;
    Ok(())
}
