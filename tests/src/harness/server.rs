//! A server inside the test.

use std::{net::SocketAddr, sync::Arc};

use forebay_client::Client;
use forebay_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use forebay_server::{
    admission::Budget,
    device::{AnyDevice, Devices},
    registry::{Registry, Served},
    server::{Error, Server},
    transport::Drained,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{Builder, RawClient, TestRepository, within};
use crate::models::Fixture;

/// A server on a port of its own, on the test's runtime. End it with [`stop`](Self::stop), which
/// checks what every test must leave behind.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    registry: Arc<Registry>,
    budget: Budget,
    devices: Devices,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<Drained, Error>>,
    repository: TestRepository,
}

impl TestServer {
    /// Returns settings to be changed.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Serves fixture models, with all settings at their defaults.
    ///
    /// # Panics
    /// As [`Builder::start`].
    pub async fn start(fixtures: &[Fixture]) -> Self {
        Self::builder().with_fixtures(fixtures).start().await
    }

    pub(super) async fn launch(builder: Builder) -> Self {
        let Builder {
            mut config,
            repository,
            tracer,
        } = builder;
        config.model_repository = repository.path();
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("the listener is bound");
        let shutdown = CancellationToken::new();
        let server = within(Server::load(config, tracer, shutdown.clone()))
            .await
            .expect("the repository can be read");
        let registry = Arc::clone(server.registry());
        let (budget, devices) = (server.budget().clone(), server.devices().clone());
        let serving = tokio::spawn(server.serve(listener, shutdown.clone()));
        Self {
            address,
            registry,
            budget,
            devices,
            shutdown,
            serving,
            repository,
        }
    }

    /// Returns where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns where the server listens, as clients take it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connects a client.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn client(&self) -> Client {
        within(Client::connect(self.endpoint()))
            .await
            .expect("the server answers")
    }

    /// Connects a client of the generated kind, for messages that the SDK does not make.
    ///
    /// # Panics
    /// As [`client`](Self::client).
    pub async fn service(&self) -> GrpcInferenceServiceClient<Channel> {
        GrpcInferenceServiceClient::new(self.channel().await)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// Connects, for any gRPC service.
    ///
    /// # Panics
    /// As [`client`](Self::client).
    pub async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(self.endpoint()).expect("an address is a URI");
        within(endpoint.connect())
            .await
            .expect("the server answers")
    }

    /// Connects a client that sends frames by hand.
    ///
    /// # Panics
    /// As [`client`](Self::client).
    pub async fn raw(&self) -> RawClient {
        within(RawClient::connect(self.address)).await
    }

    /// Returns the models.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns a model's latest version.
    ///
    /// # Panics
    /// It is not ready.
    pub fn model(&self, name: &str) -> Arc<Served> {
        let found = self.registry.find(name, "");
        Arc::clone(found.expect("the model is ready"))
    }

    /// Returns the memory that requests and replies are charged to.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Returns what the models may run on.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// Returns the folder of models.
    pub fn repository(&self) -> &TestRepository {
        &self.repository
    }

    /// Begins the shutdown, and does not wait for its end.
    pub fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Waits until the server has shut down, and begins that if nobody has.
    ///
    /// # Panics
    /// It does not end, or has not given back every byte of its budget, or its device has seen
    /// memory used out of order.
    pub async fn stop(self) -> Drained {
        self.shutdown.cancel();
        let drained = within(self.serving)
            .await
            .expect("serving does not panic")
            .expect("the server ends well");
        assert_eq!(self.budget.used(), 0, "bytes of the budget are lost");
        assert_eq!(self.budget.waiting(), 0, "someone waits for bytes");
        if let AnyDevice::Simulated(device) = self.devices.host() {
            assert!(device.hazards().is_empty(), "{:?}", device.hazards());
        }
        drained
    }
}
