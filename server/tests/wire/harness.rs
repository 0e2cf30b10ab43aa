//! A server of scripted methods on a port of its own.

use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use forebay_proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use forebay_server::admission::{self, Budget};
use forebay_server::grpc::admission_body::AdmissionLayer;
use forebay_server::grpc::deadline::DeadlineLayer;
use forebay_server::grpc::panic::PanicLayer;
use forebay_server::memory::Pool;
use forebay_server::transport::{self, Drained};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower_layer::Layer as _;

use super::scripted::{Script, Scripted};

/// Longer than anything that a test waits for.
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) budget: Budget,
    pub(super) script: Script,
    pub(super) shutdown: CancellationToken,
    serving: JoinHandle<Drained>,
}

impl Server {
    pub(super) async fn start(transport: transport::Config, admission: &admission::Config) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("the listener is bound");
        let budget = Budget::new("host", admission.host_bytes.as_u64());
        let script = Script::default();
        let methods = GrpcInferenceServiceServer::new(Scripted::new(script.clone()))
            .max_decoding_message_size(usize::MAX);
        let service = AdmissionLayer::new(budget.clone(), Pool::new(0), admission)
            .layer(Routes::new(methods));
        let service = DeadlineLayer.layer(PanicLayer.layer(service));
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let serving =
            tokio::spawn(
                async move { transport::serve(listener, service, &transport, stop).await },
            );
        Self {
            address,
            budget,
            script,
            shutdown,
            serving,
        }
    }

    pub(super) async fn with_budget(host_bytes: u64) -> Self {
        let admission = admission::Config {
            host_bytes: ByteSize(host_bytes),
            ..admission::Config::default()
        };
        Self::start(transport::Config::default(), &admission).await
    }

    pub(super) async fn with_transport(transport: transport::Config) -> Self {
        Self::start(transport, &admission::Config::default()).await
    }

    pub(super) async fn stop(self) -> Drained {
        self.shutdown.cancel();
        within(self.serving).await.expect("serving does not panic")
    }
}

/// Waits for what must come soon.
pub(super) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work)
        .await
        .expect("comes in good time")
}

/// Waits until `condition` holds.
pub(super) async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
