//! Settings of a client, and its connections.

use std::{error::Error, time::Duration};

use tonic::transport::{Channel, Endpoint};

use crate::client::Client;

/// The largest window, and the largest message, that the protocol can name.
const MAX_31_BITS: u32 = (1 << 31) - 1;
const DEFAULT_STREAM_WINDOW: u32 = 8 << 20;
/// Enough for eight streams whose replies nobody reads at the moment.
const STREAMS_PER_CONNECTION_WINDOW: u32 = 8;
const MIN_CONNECTION_WINDOW: u32 = STREAMS_PER_CONNECTION_WINDOW * DEFAULT_STREAM_WINDOW;
/// Frames of replies, which are 16 KiB where nothing is said: each costs both ends a call. Each is held
/// whole before it is read, and with larger ones single calls of 1 MiB were slower under glibc.
const MAX_FRAME_BYTES: u32 = 128 * 1024;
const KEEPALIVE: Duration = Duration::from_secs(20);

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
    stream_window: u32,
    max_message_bytes: usize,
}

impl Builder {
    pub(crate) fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            connections: 1,
            connect_timeout: Duration::from_secs(10),
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
            streams.push(endpoint.connect_lazy());
        }
        Ok(Client::new(calls, streams, self.max_message_bytes))
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
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .user_agent(concat!("forebay-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| invalid(Some(error.into())))
    }

    async fn reach(&self, endpoint: &Endpoint) -> Result<Channel, ConnectError> {
        endpoint
            .connect()
            .await
            .map_err(|error| ConnectError::Unreachable {
                endpoint: self.endpoint.clone(),
                source: error.into(),
            })
    }
}
