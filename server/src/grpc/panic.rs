//! A handler that panics ends its own call with INTERNAL, and nothing else.
//!
//! tower-http catches panics up to the response's head. What a streaming method does after that
//! runs inside the response body, so [`PanicLayer`] watches the body as well.
//!
//! Invariant: each panic is logged once, here; a client learns that there was one, not its text.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;
use tower_http::catch_panic::{CatchPanic, ResponseForPanic};
use tower_layer::Layer;
use tower_service::Service;

use super::trailers;

/// Turns panics of the service under it into INTERNAL.
#[derive(Debug, Clone, Copy, Default)]
pub struct PanicLayer;

/// The service that [`PanicLayer`] makes.
#[derive(Debug, Clone)]
pub struct PanicGuard<S> {
    inner: CatchPanic<S, Responder>,
}

/// Answers for a service that panicked before the response's head.
#[derive(Debug, Clone, Copy)]
pub struct Responder;

/// A response body that ends with INTERNAL where it would have panicked.
#[derive(Debug)]
struct GuardedBody {
    /// None once it has panicked: what a panic left behind is not touched again.
    inner: Option<Body>,
}

impl<S> Layer<S> for PanicLayer {
    type Service = PanicGuard<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let inner = CatchPanic::custom(inner, Responder);
        PanicGuard { inner }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for PanicGuard<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let response = self.inner.call(request);
        Box::pin(async move {
            Ok(response.await?.map(|inner| {
                let inner = Some(Body::new(inner));
                Body::new(GuardedBody { inner })
            }))
        })
    }
}

impl ResponseForPanic for Responder {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
        status(&*panic).into_http()
    }
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx))) {
            Ok(frame) => frame,
            Err(panic) => {
                self.inner = None;
                Poll::Ready(Some(Ok(trailers::ending(&status(&*panic)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner
            .as_ref()
            .is_none_or(|inner| inner.is_end_stream())
    }
}

/// Logs a panic and returns what the client is told.
fn status(panic: &(dyn Any + Send)) -> Status {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("not a text");
    tracing::error!(panic = text, "a request handler panicked");
    Status::internal("the server met a fault of its own while it answered this call")
}
