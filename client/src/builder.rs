//! Settings of a client, and its connections.

use std::{error::Error, time::Duration};

use hyper_util::client::legacy::connect::HttpConnector;
use tonic::transport::{Channel, Endpoint};

use crate::client::{Client, Limits};

/// The largest window, and the largest message, that the protocol can name.
const MAX_31_BITS: u32 = (1 << 31) - 1;
const DEFAULT_STREAM_WINDOW: u32 = 8 << 20;
/// Enough for eight streams whose replies nobody reads at the moment.
const STREAMS_PER_CONNECTION_WINDOW: u32 = 8;
const MIN_CONNECTION_WINDOW: u32 = STREAMS_PER_CONNECTION_WINDOW * DEFAULT_STREAM_WINDOW;
/// Frames of replies, which are 16 KiB where nothing is said: each costs both ends a call. Each is held
/// whole before it is read, and with larger ones single calls of 1 MiB were slower under glibc.
const MAX_FRAME_BYTES: u32 = 128 * 1024;
/// Servers of grpc-core, Triton among them, may close a connection that is pinged more often than every
/// 300 seconds (`GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS`, and two that come too soon are
/// allowed). That is what they document: in a trial, Triton 2.51 let pings every 20 seconds pass for 95.
const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(330);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The kernel's probes of a connection on which nothing moves. No server sees them.
const PROBE_AFTER: Duration = Duration::from_secs(20);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 2;
/// How long bytes may lie without an acknowledgement; kernels wait for a quarter of an hour and more.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(40);

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The endpoint is no address this client can use.
    #[error("'{endpoint}' is no endpoint; write it as http://host:port")]
    InvalidEndpoint {
        /// The endpoint as given.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A setting is out of its range.
    #[error("{setting} is {value}; it must be between 1 and {largest}")]
    InvalidSetting {
        /// The builder's method.
        setting: &'static str,
        /// The value given.
        value: usize,
        /// The largest value allowed.
        largest: usize,
    },
    /// Nobody answers at the endpoint.
    #[error("nothing answers at {endpoint}; check that the server runs and listens there")]
    Unreachable {
        /// The endpoint.
        endpoint: String,
        /// What the transport reported.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    endpoint: String,
    connections: usize,
    connect_timeout: Duration,
    call_timeout: Option<Duration>,
    ping_interval: Duration,
    stream_window: u32,
    max_message_bytes: usize,
}

impl Builder {
    pub(crate) fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            connections: 1,
            connect_timeout: Duration::from_secs(10),
            call_timeout: None,
            ping_interval: DEFAULT_PING_INTERVAL,
            stream_window: DEFAULT_STREAM_WINDOW,
            max_message_bytes: MAX_31_BITS as usize,
        }
    }

    /// Sets the number of connections for calls, and for streams as many more. Both are used in
    /// turn. Defaults to 1.
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how long one connection may take to be made. Defaults to 10 seconds.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long each call about the server or its models may take, such as
    /// [`Client::server_ready`] or [`Client::statistics`]; one that takes longer is given up
    /// ([`CallError::DeadlineExceeded`](crate::CallError::DeadlineExceeded)). Inferences have limits of
    /// their own ([`Request::with_timeout`](crate::Request::with_timeout)). Defaults to no limit.
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = Some(timeout);
        self
    }

    /// Sets for how long the server may say nothing, while a call or a stream is open, until it is
    /// pinged; without an answer within 20 seconds the connection is lost then. A process that hangs is
    /// found so; a machine that has gone is found by the kernel, within some 40 seconds.
    ///
    /// Defaults to 330 seconds, since servers of grpc-core, such as Triton, may close connections that
    /// are pinged more often than every 300 (`too_many_pings`). Forebay takes any; at least a second is
    /// waited.
    pub fn with_ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval;
        self
    }

    /// Sets how many bytes of replies the server may send ahead on one call or stream. A reply
    /// that is larger waits for round trips. Defaults to 8 MiB.
    pub fn with_stream_window(mut self, bytes: u32) -> Self {
        self.stream_window = bytes;
        self
    }

    /// Sets the largest message that is sent or accepted. Defaults to 2^31 - 1 bytes.
    pub fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Connects for calls; connections for streams are made when they are first used. A connection
    /// that breaks is made again by the next call on it.
    ///
    /// # Errors
    /// A setting out of range, an endpoint that is none, or nobody there.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        self.validate()?;
        let endpoint = self.endpoint()?;
        let mut calls = Vec::with_capacity(self.connections);
        let mut streams = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            calls.push(self.reach(&endpoint).await?);
            streams.push(endpoint.connect_with_connector_lazy(connector()));
        }
        let limits = Limits {
            call_timeout: self.call_timeout,
            max_message_bytes: self.max_message_bytes,
        };
        Ok(Client::new(calls, streams, limits))
    }

    fn validate(&self) -> Result<(), ConnectError> {
        let max = MAX_31_BITS as usize;
        let window = usize::try_from(self.stream_window).unwrap_or(usize::MAX);
        let settings = [
            ("with_connections", self.connections, 1024),
            ("with_stream_window", window, max),
            ("with_max_message_bytes", self.max_message_bytes, max),
        ];
        match settings
            .into_iter()
            .find(|&(_, value, largest)| value == 0 || value > largest)
        {
            None => Ok(()),
            Some((setting, value, largest)) => Err(ConnectError::InvalidSetting {
                setting,
                value,
                largest,
            }),
        }
    }

    fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        let invalid = |source| ConnectError::InvalidEndpoint {
            endpoint: self.endpoint.clone(),
            source,
        };
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|error| invalid(Some(error.into())))?;
        if endpoint.uri().scheme_str() != Some("http") {
            return Err(invalid(None));
        }
        let connection_window = self
            .stream_window
            .saturating_mul(STREAMS_PER_CONNECTION_WINDOW)
            .clamp(MIN_CONNECTION_WINDOW, MAX_31_BITS);
        endpoint
            .connect_timeout(self.connect_timeout)
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(connection_window)
            .max_frame_size(MAX_FRAME_BYTES)
            .http2_keep_alive_interval(self.ping_interval.max(Duration::from_secs(1)))
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false)
            .user_agent(concat!("forebay-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| invalid(Some(error.into())))
    }

    async fn reach(&self, endpoint: &Endpoint) -> Result<Channel, ConnectError> {
        let connecting = endpoint.connect_with_connector(connector());
        connecting.await.map_err(|error| ConnectError::Unreachable {
            endpoint: self.endpoint.clone(),
            source: error.into(),
        })
    }
}

/// Returns what makes the TCP connections. tonic's own does not bound how long bytes may lie without
/// an acknowledgement.
fn connector() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(PROBE_AFTER));
    tcp.set_keepalive_interval(Some(PROBE_INTERVAL));
    tcp.set_keepalive_retries(Some(PROBES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp
}
