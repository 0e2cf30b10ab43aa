//! A small server that does what each request's parameter `do` says.
//!
//! It has a runtime of its own, so that dropping it cuts its connections as a crash would.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use forebay_client::{Client, Parameter, Request, Tensor, tensor};
use forebay_proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{Semaphore, watch},
};
use tokio_stream::wrappers::TcpListenerStream;

mod service;
mod streaming;

/// What a test and its server share.
#[derive(Debug)]
pub(crate) struct Script {
    /// Lets the oldest `gated` request be answered, one for each permit.
    pub(crate) gate: Semaphore,
    /// Bytes of requests received and not answered, at the most.
    pub(crate) peak_bytes: AtomicUsize,
    /// Streams whose client has gone.
    pub(crate) streams_ended: watch::Sender<usize>,
    /// The connections that inferences and streams came on.
    pub(crate) peers: Mutex<[BTreeSet<SocketAddr>; 2]>,
    /// Whether a stream's headers go out only when its first request has come.
    pub(crate) late_headers: bool,
}

pub(crate) struct Server {
    pub(crate) script: Arc<Script>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(false)
    }

    pub(crate) fn start_with(late_headers: bool) -> Self {
        let script = Arc::new(Script {
            gate: Semaphore::new(0),
            peak_bytes: AtomicUsize::new(0),
            streams_ended: watch::Sender::new(0),
            peers: Mutex::default(),
            late_headers,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let service = GrpcInferenceServiceServer::new(service::Scripted(Arc::clone(&script)))
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
        });
        Self {
            script,
            address,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.endpoint()).await.unwrap()
    }

    pub(crate) fn peak_bytes(&self) -> usize {
        self.script.peak_bytes.load(Ordering::SeqCst)
    }

    /// Cuts every connection at once.
    pub(crate) fn crash(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On a thread of its own, as a runtime must not be waited for inside another.
            let stopped = std::thread::spawn(move || drop(runtime)).join();
            assert!(stopped.is_ok());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes a request whose only input holds `values`, which an answer gives back as `y`.
pub(crate) fn request(values: &[f32]) -> Request {
    Request::new("m").with_input(input(values))
}

/// Makes a request that tells the server what to do with it.
pub(crate) fn order(what: &str, values: &[f32]) -> Request {
    request(values).with_parameter("do", Parameter::String(what.into()))
}

fn input(values: &[f32]) -> Tensor {
    tensor::from_slice("x", values, [i64::try_from(values.len()).unwrap()]).unwrap()
}

pub(crate) fn values(reply: &forebay_client::Reply) -> Vec<f32> {
    tensor::to_vec(reply.output("y").unwrap()).unwrap()
}

/// Fails a test that would hang.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, future)
        .await
        .expect("no progress")
}
