//! Single calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use forebay_proto::{
    InferResponse,
    inference::{
        ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
        ModelStatisticsRequest, RepositoryIndexRequest, ServerLiveRequest, ServerMetadataRequest,
        ServerReadyRequest,
    },
    pieces::Aside,
};
use tonic::transport::Channel;

use crate::{
    builder::{Builder, ConnectError},
    error::{CallError, Fault, InferError},
    metadata::{ModelConfig, ModelIndex, ModelMetadata, ServerMetadata},
    reply::{Reply, Timings},
    request::Request,
    session::{Session, StreamOptions, check_message_size},
    statistics::{ModelStatistics, Statistics},
    transport::{Probe, Stub, Transport},
};

/// The longest deadline that a call's headers can name.
const LONGEST_DEADLINE: Duration = Duration::from_secs(99_999_999 * 3600);

/// A client of one server. Clones share its connections.
///
/// Calls and streams have connections of their own, so that a stream nobody reads does not hold up
/// a call. All methods may be called from many tasks at once.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    calls: Connections,
    streams: Connections,
    limits: Limits,
}

/// What bounds single calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For each call that is no inference.
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) max_message_bytes: usize,
}

/// Connections that are used in turn. Never empty.
#[derive(Debug)]
struct Connections {
    services: Vec<Stub>,
    next: AtomicUsize,
}

impl Client {
    /// Connects to `endpoint`, such as `http://127.0.0.1:8001`, with all settings at their
    /// defaults.
    ///
    /// # Errors
    /// The endpoint is none, or nobody answers there.
    pub async fn connect(endpoint: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder(endpoint).connect().await
    }

    /// Returns the settings of a client for `endpoint`, to be changed and connected.
    pub fn builder(endpoint: impl Into<String>) -> Builder {
        Builder::new(endpoint.into())
    }

    pub(crate) fn new(calls: Vec<Channel>, streams: Vec<Channel>, limits: Limits) -> Self {
        let connections = |channels: Vec<Channel>| Connections {
            services: channels
                .into_iter()
                .map(|channel| {
                    Stub::new(Transport::new(channel))
                        .max_decoding_message_size(limits.max_message_bytes)
                        .max_encoding_message_size(limits.max_message_bytes)
                })
                .collect(),
            next: AtomicUsize::new(0),
        };
        let shared = Shared {
            calls: connections(calls),
            streams: connections(streams),
            limits,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns whether the server's process is well.
    ///
    /// # Errors
    /// The call failed.
    pub async fn server_live(&self) -> Result<bool, CallError> {
        let mut service = self.service();
        let call = service.server_live(ServerLiveRequest {});
        Ok(self.ask("ServerLive", call).await?.live)
    }

    /// Returns whether the server takes requests.
    ///
    /// # Errors
    /// The call failed.
    pub async fn server_ready(&self) -> Result<bool, CallError> {
        let mut service = self.service();
        let call = service.server_ready(ServerReadyRequest {});
        Ok(self.ask("ServerReady", call).await?.ready)
    }

    /// Returns whether `model` takes requests, in the version that the server prefers.
    ///
    /// # Errors
    /// The call failed; some servers answer so for a model that does not exist.
    pub async fn model_ready(&self, model: impl Into<String>) -> Result<bool, CallError> {
        let request = ModelReadyRequest {
            name: model.into(),
            ..Default::default()
        };
        let mut service = self.service();
        let call = service.model_ready(request);
        Ok(self.ask("ModelReady", call).await?.ready)
    }

    /// Returns what the server says of itself.
    ///
    /// # Errors
    /// The call failed.
    pub async fn server_metadata(&self) -> Result<ServerMetadata, CallError> {
        let mut service = self.service();
        let call = service.server_metadata(ServerMetadataRequest {});
        Ok(self.ask("ServerMetadata", call).await?.into())
    }

    /// Returns the signature of `model`.
    ///
    /// # Errors
    /// The call failed, or the answer names a datatype that the protocol does not have.
    pub async fn model_metadata(
        &self,
        model: impl Into<String>,
    ) -> Result<ModelMetadata, CallError> {
        let request = ModelMetadataRequest {
            name: model.into(),
            ..Default::default()
        };
        let mut service = self.service();
        let call = service.model_metadata(request);
        self.ask("ModelMetadata", call).await?.try_into()
    }

    /// Returns how `model` is configured, in the version that the server prefers.
    ///
    /// # Errors
    /// The call failed; it is one of Triton's extensions, which other servers may lack.
    pub async fn model_config(&self, model: impl Into<String>) -> Result<ModelConfig, CallError> {
        let request = ModelConfigRequest {
            name: model.into(),
            ..Default::default()
        };
        let mut service = self.service();
        let call = service.model_config(request);
        let response = self.ask("ModelConfig", call).await?;
        Ok(response.config.unwrap_or_default().into())
    }

    /// Returns what each version of `model` has done; of all models, if `model` is "".
    ///
    /// # Errors
    /// The call failed.
    pub async fn model_statistics(
        &self,
        model: impl Into<String>,
    ) -> Result<Vec<ModelStatistics>, CallError> {
        Ok(self.statistics(model).await?.models)
    }

    /// Returns what each version of `model` has done, or of all models if `model` is "", and the
    /// devices that models run on.
    ///
    /// # Errors
    /// The call failed.
    pub async fn statistics(&self, model: impl Into<String>) -> Result<Statistics, CallError> {
        let request = ModelStatisticsRequest {
            name: model.into(),
            ..Default::default()
        };
        let mut service = self.service();
        let call = service.model_statistics(request);
        Ok(self.ask("ModelStatistics", call).await?.into())
    }

    /// Returns all models that the server knows, whatever their state.
    ///
    /// # Errors
    /// The call failed.
    pub async fn repository_index(&self) -> Result<Vec<ModelIndex>, CallError> {
        let mut service = self.service();
        let call = service.repository_index(RepositoryIndexRequest::default());
        let models = self.ask("RepositoryIndex", call).await?.models;
        Ok(models.into_iter().map(Into::into).collect())
    }

    /// Sends one request on its own and waits for the reply.
    ///
    /// # Errors
    /// The request is too large, the server refused or failed it, the timeout passed, or the
    /// connection broke.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; the server may have executed it.
    pub async fn infer(&self, request: Request) -> Result<Reply, InferError> {
        let reserved = Instant::now();
        let timeout = request.timeout();
        let message = ModelInferRequest::from(request.into_message());
        check_message_size(&message, self.shared.limits.max_message_bytes)?;
        let call = self.call(message, reserved, timeout);
        match timeout {
            None => call.await,
            Some(after) => tokio::time::timeout(after, call)
                .await
                .unwrap_or(Err(InferError::DeadlineExceeded { after })),
        }
    }

    async fn call(
        &self,
        message: ModelInferRequest,
        reserved: Instant,
        timeout: Option<Duration>,
    ) -> Result<Reply, InferError> {
        let model = message.model_name.clone();
        let probe = Probe::default();
        let aside = Aside::default();
        let mut call = tonic::Request::new(aside.take(message));
        call.extensions_mut().insert(probe.clone());
        if !aside.is_empty() {
            call.extensions_mut().insert(aside);
        }
        if let Some(timeout) = timeout.filter(|timeout| *timeout <= LONGEST_DEADLINE) {
            call.set_timeout(timeout);
        }
        match self.service().model_infer(call).await {
            Ok(response) => {
                let response = InferResponse::try_from(response.into_inner())?;
                let done = Instant::now();
                let timings = Timings {
                    reserved,
                    sent: probe.sent().unwrap_or(reserved),
                    first_byte: probe.next_first_byte().unwrap_or(done),
                    done,
                };
                Ok(Reply::new(response, timings))
            }
            Err(status) => Err(match Fault::from(status) {
                Fault::Status { code, message } => InferError::Failed {
                    model,
                    code,
                    message,
                },
                Fault::Transport(source) if probe.sent().is_none() => InferError::Unsent { source },
                Fault::Transport(source) => InferError::ConnectionLost { source },
            }),
        }
    }

    /// Opens a stream for many requests.
    ///
    /// # Errors
    /// A limit of zero, or the stream could not be opened.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no stream behind.
    pub async fn stream(&self, options: StreamOptions) -> Result<Session, InferError> {
        let service = self.shared.streams.next();
        Session::open(service, options, self.shared.limits.max_message_bytes).await
    }

    /// Waits for the answer to a call that is no inference.
    async fn ask<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, CallError> {
        let answer = match self.shared.limits.call_timeout {
            None => call.await,
            Some(after) => tokio::time::timeout(after, call)
                .await
                .map_err(|_| CallError::DeadlineExceeded { call: name, after })?,
        };
        match answer {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(CallError::new(name, status)),
        }
    }

    fn service(&self) -> Stub {
        self.shared.calls.next()
    }
}

impl Connections {
    fn next(&self) -> Stub {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.services[turn % self.services.len()].clone()
    }
}
