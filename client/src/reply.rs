//! What a model answered, and when.

use std::time::{Duration, Instant};

use forebay_proto::{InferResponse, Parameter, Parameters, Tensor};

/// The answer to one request.
#[derive(Debug, Clone)]
pub struct Reply {
    response: InferResponse,
    timings: Timings,
}

/// When a request passed which point on this side.
///
/// Invariant: `reserved <= sent` and `first_byte <= done`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// The permit was there; on single calls, the call began.
    pub reserved: Instant,
    /// The transport took the message to encode it. Until then it waited here, for the connection
    /// or for the server to read.
    pub sent: Instant,
    /// The first byte of this very reply arrived, with the rest of its frame: up to 128 KiB. A server
    /// may begin to answer before it has read the whole request.
    pub first_byte: Instant,
    /// The reply was there and decoded.
    pub done: Instant,
}

/// Where the time went in the server, as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTimings {
    /// Waiting for a batch and for the device, and for what the next three tell.
    pub queue: Duration,
    /// Of that, waiting for the model's weights to come into memory; zero where they were there.
    pub residency: Duration,
    /// Of that, for how long the inputs were left on disk; absent where they stayed in memory.
    pub parked: Option<Duration>,
    /// Of that, how long their way back took; absent where they stayed in memory.
    pub onboard: Option<Duration>,
    /// Copying inputs to the device.
    pub h2d: Duration,
    /// In the model.
    pub compute: Duration,
    /// Copying outputs back.
    pub d2h: Duration,
}

impl Reply {
    pub(crate) fn new(response: InferResponse, timings: Timings) -> Self {
        Self { response, timings }
    }

    /// Returns the model.
    pub fn model_name(&self) -> &str {
        &self.response.model_name
    }

    /// Returns the version that answered, in decimal.
    pub fn model_version(&self) -> &str {
        &self.response.model_version
    }

    /// Returns the request's id.
    pub fn id(&self) -> &str {
        &self.response.id
    }

    /// Returns the outputs, in the order asked for.
    pub fn outputs(&self) -> &[Tensor] {
        &self.response.outputs
    }

    /// Returns the output called `name`.
    pub fn output(&self, name: &str) -> Option<&Tensor> {
        self.outputs().iter().find(|output| output.name() == name)
    }

    /// Takes the outputs.
    pub fn into_outputs(self) -> Vec<Tensor> {
        self.response.outputs
    }

    /// Returns the parameters that came with the reply.
    pub fn parameters(&self) -> &Parameters {
        &self.response.parameters
    }

    /// Returns where the time went in the server, if it was
    /// [asked](crate::Request::with_server_timings) and is a Forebay server.
    pub fn server_timings(&self) -> Option<ServerTimings> {
        let duration = |name| {
            let nanos = self.parameters().get(name).and_then(Parameter::as_u64)?;
            Some(Duration::from_nanos(nanos))
        };
        Some(ServerTimings {
            queue: duration("forebay_queue_ns")?,
            residency: duration("forebay_residency_ns").unwrap_or_default(),
            parked: duration("forebay_parked_ns"),
            onboard: duration("forebay_onboard_ns"),
            h2d: duration("forebay_h2d_ns")?,
            compute: duration("forebay_compute_ns")?,
            d2h: duration("forebay_d2h_ns")?,
        })
    }

    /// Returns when the request passed which point on this side.
    pub fn timings(&self) -> Timings {
        self.timings
    }
}
