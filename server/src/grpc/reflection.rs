//! Reflection, v1 and v1alpha, so that tools need no `.proto` files.
//!
//! Some tools keep a stream of it open for as long as they run. Such a call ends with its connection, as one
//! that watches the server's health ends with the server: it would hold them up for nothing.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body, server::NamedService, service::Routes};
use tonic_reflection::server::Builder;
use tower_service::Service;

use crate::transport::Draining;

/// Adds both versions of the service, whose calls end once `draining` is cancelled.
pub(super) fn add(routes: Routes, draining: &CancellationToken) -> Routes {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(forebay_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes
            .add_service(Ending::new(v1, draining))
            .add_service(Ending::new(v1alpha, draining)),
        (Err(error), _) | (_, Err(error)) => {
            // The descriptors are compiled in, so this would show in the first test.
            tracing::error!(%error, "reflection is off");
            routes
        }
    }
}

/// A service that has had all requests once `draining` is cancelled.
#[derive(Debug, Clone)]
struct Ending<S> {
    inner: S,
    draining: CancellationToken,
}

impl<S> Ending<S> {
    fn new(inner: S, draining: &CancellationToken) -> Self {
        Self {
            inner,
            draining: draining.clone(),
        }
    }
}

impl<S: NamedService> NamedService for Ending<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Ending<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // That of the connection, which may be asked to go before the server is.
        let connection = request.extensions().get::<Draining>();
        let draining = connection.map_or(&self.draining, |draining| &draining.0);
        let draining = Box::pin(draining.clone().cancelled_owned());
        let requests = request.map(|body| Body::new(Requests { body, draining }));
        self.inner.call(requests)
    }
}

/// The requests of a call, which end as if the caller had no more.
struct Requests {
    body: Body,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl HttpBody for Requests {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => this.draining.as_mut().poll(cx).map(|()| None),
            frame => frame,
        }
    }
}
