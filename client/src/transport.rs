//! The channel with a stopwatch, and with a way past the encoder for large messages.
//!
//! A call that carries a [`Probe`] in its extensions is timed: when its messages leave, and when
//! replies arrive. One that carries an [`Aside`] sends what is put there in its place. Others pass
//! through.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use forebay_proto::{
    inference::grpc_inference_service_client::GrpcInferenceServiceClient,
    pieces::{Aside, Rejoined},
};
use tonic::{body::Body, transport::Channel};
use tower_service::Service;

mod probe;

pub(crate) use probe::Probe;
use probe::{Received, Sending};

/// Makes the protocol's calls over a timed channel.
pub(crate) type Stub = GrpcInferenceServiceClient<Transport>;

/// A channel whose bodies are timed. Clones share its connection.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    channel: Channel,
}

impl Transport {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel }
    }
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Received>;
    type Error = tonic::transport::Error;
    type Future = Response;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Response {
        let probe: Option<Probe> = request.extensions_mut().remove();
        let aside: Option<Aside> = request.extensions_mut().remove();
        if let Some(aside) = aside {
            request = request.map(|body| Body::new(Rejoined::new(body, aside)));
        }
        if let Some(probe) = probe.clone() {
            request = request.map(|body| Body::new(Sending::new(body, probe)));
        }
        Response {
            future: self.channel.call(request),
            probe,
        }
    }
}

/// The response once it is there, its body timed.
pub(crate) struct Response {
    future: tonic::transport::channel::ResponseFuture,
    probe: Option<Probe>,
}

impl Future for Response {
    type Output = Result<http::Response<Received>, tonic::transport::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = std::task::ready!(Pin::new(&mut self.future).poll(cx))?;
        let probe = self.probe.take();
        Poll::Ready(Ok(response.map(|body| Received::new(body, probe))))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").finish_non_exhaustive()
    }
}
