//! Keeps the deadline that a client sends as `grpc-timeout`.
//!
//! The deadline travels on as a [`Deadline`] in the request's extensions, for queues and stages to
//! act on early. This layer is the backstop: past the deadline the call ends with
//! DEADLINE_EXCEEDED, before or within the response, and what was working on it is dropped.

mod body;
mod timeout;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;
use tower_layer::Layer;
use tower_service::Service;

pub use timeout::{InvalidTimeout, parse_timeout};

/// When the caller stops waiting. Calls without `grpc-timeout` have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub std::time::Instant);

/// Ends calls at their deadline.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeadlineLayer;

/// The service that [`DeadlineLayer`] makes.
#[derive(Debug, Clone)]
pub struct DeadlineGuard<S> {
    inner: S,
}

/// A deadline as this layer keeps it.
#[derive(Debug, Clone, Copy)]
struct Limit {
    at: Instant,
    timeout: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineGuard<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineGuard { inner }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for DeadlineGuard<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let limit = match Limit::of(request.headers(), Instant::now()) {
            Ok(limit) => limit,
            Err(error) => {
                let status = Status::invalid_argument(error.to_string());
                return Box::pin(async move { Ok(status.into_http()) });
            }
        };
        let Some(limit) = limit else {
            let response = self.inner.call(request);
            return Box::pin(async move { Ok(response.await?.map(Body::new)) });
        };
        request
            .extensions_mut()
            .insert(Deadline(limit.at.into_std()));
        let response = self.inner.call(request);
        Box::pin(async move {
            // In a box, as it goes on to the body.
            let mut timer = Box::pin(tokio::time::sleep_until(limit.at));
            tokio::select! {
                biased;
                response = response => {
                    let (head, inner) = response?.into_parts();
                    let body = body::limited(Body::new(inner), limit, timer);
                    Ok(Response::from_parts(head, body))
                }
                // However much the call does in a turn.
                () = unconstrained(timer.as_mut()) => Ok(limit.passed().into_http()),
            }
        })
    }
}

impl Limit {
    fn of(headers: &HeaderMap, now: Instant) -> Result<Option<Self>, InvalidTimeout> {
        let Some(value) = headers.get(timeout::HEADER) else {
            return Ok(None);
        };
        let timeout = parse_timeout(value.as_bytes())?;
        // A clock that cannot count that far will not see it pass either.
        Ok(now.checked_add(timeout).map(|at| Self { at, timeout }))
    }

    fn passed(self) -> Status {
        Status::deadline_exceeded(format!("deadline of {:?} passed", self.timeout))
    }
}
