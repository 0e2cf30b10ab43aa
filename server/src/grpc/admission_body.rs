//! Admission under tonic: a message is let in by the length that its prefix announces.
//!
//! tonic makes room for a message as soon as it has read the five bytes before it, so whoever can
//! send five bytes could make the server reserve gigabytes. [`AdmissionLayer`] wraps each request's
//! body and takes a [`Permit`] for the announced length before it lets the
//! prefix through.
//!
//! On `ModelStreamInfer` a message waits in line for its bytes; meanwhile the body is not read, and
//! HTTP/2 pushes back on that one stream. On `ModelInfer` it does so for a moment, and only while
//! requests go to disk to make room. Everywhere else, and where there is no disk or none that takes
//! more, what does not fit now is refused, since a unary caller is better served by an early answer.
//! Messages of up to [`CONTROL_BYTES`] on methods other than the two that infer are free of admission,
//! so that health checks and metadata are answered when the budget is full.

mod body;
mod incoming;
mod permits;
mod progress;
mod refusal;

use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

pub use body::AdmissionBody;
pub use permits::{Admitted, MessagePermits};

use crate::admission::{Budget, Config, Error, Permit, Refusal, Reserve};
use crate::memory::Pool;

/// Longest message that needs no permit, on methods that do not infer.
pub const CONTROL_BYTES: u64 = 4 * 1024;

/// Longest message on those methods: they take names, which a decoder makes ten times as much of.
const MAX_CONTROL_BYTES: u64 = 1024 * 1024;

/// Puts an [`AdmissionBody`] under each request and [`MessagePermits`] into its extensions.
#[derive(Debug, Clone)]
pub struct AdmissionLayer {
    gate: Gate,
}

/// The service that [`AdmissionLayer`] makes.
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: S,
    gate: Gate,
}

/// Decides about single messages.
#[derive(Debug, Clone)]
struct Gate {
    budget: Budget,
    /// Where large messages are gathered.
    pool: Pool,
    max_message_bytes: u64,
    progress_timeout: Duration,
    unary_wait: Duration,
}

/// What a method's messages do when their bytes are not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// Wait in line.
    Wait,
    /// Wait in line for a moment while room is made; be refused else.
    WaitForRoom,
    /// Be refused, unless so small that they need none.
    Control,
}

/// The decision about one message.
#[derive(Debug)]
enum Verdict {
    Free,
    Admitted(Permit),
    Waits(Reserve),
}

impl AdmissionLayer {
    /// Returns a layer that takes permits from `budget` within the limits of `config`, and memory for
    /// large messages from `pool`.
    pub fn new(budget: Budget, pool: Pool, config: &Config) -> Self {
        let gate = Gate {
            budget,
            pool,
            max_message_bytes: config.max_message_bytes.as_u64(),
            progress_timeout: config.progress_timeout,
            unary_wait: config.unary_wait,
        };
        Self { gate }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let gate = self.gate.clone();
        Admission { inner, gate }
    }
}

impl<S, B> Service<Request<B>> for Admission<S>
where
    S: Service<Request<AdmissionBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let permits = MessagePermits::default();
        request.extensions_mut().insert(permits.clone());
        let policy = Policy::of(request.uri().path());
        let gate = self.gate.clone();
        self.inner
            .call(request.map(|inner| AdmissionBody::new(inner, gate, policy, permits)))
    }
}

impl Policy {
    fn of(path: &str) -> Self {
        match path.rsplit('/').next() {
            Some("ModelStreamInfer") => Self::Wait,
            Some("ModelInfer") => Self::WaitForRoom,
            _ => Self::Control,
        }
    }
}

impl Gate {
    fn admit(&self, bytes: u64, policy: Policy) -> Result<Verdict, Status> {
        if bytes > self.max_message_bytes {
            self.budget.count(Refusal::Length);
            return Err(Status::resource_exhausted(format!(
                "a message of {bytes} bytes is over the limit of {} bytes; \
                 send less at a time or raise admission.max_message_bytes",
                self.max_message_bytes
            )));
        }
        match policy {
            Policy::Control if bytes <= CONTROL_BYTES => Ok(Verdict::Free),
            Policy::Control if bytes > MAX_CONTROL_BYTES => {
                self.budget.count(Refusal::Length);
                Err(Status::resource_exhausted(format!(
                    "a message of {bytes} bytes is over the limit of {MAX_CONTROL_BYTES} bytes of methods that do not infer"
                )))
            }
            Policy::Wait => Ok(Verdict::Waits(self.budget.reserve(bytes))),
            Policy::WaitForRoom => self
                .budget
                .reserve_if_room_is_made(bytes)
                .map(Verdict::Waits)
                .map_err(|error| self.exhausted(error)),
            Policy::Control => self
                .budget
                .try_reserve(bytes)
                .map(Verdict::Admitted)
                .map_err(|error| self.exhausted(error)),
        }
    }

    /// Both ways of not getting bytes are the same to a client; the text tells which it was.
    fn exhausted(&self, error: Error) -> Status {
        self.budget.count(error.refusal());
        Status::resource_exhausted(error.to_string())
    }
}

#[cfg(test)]
mod tests;
