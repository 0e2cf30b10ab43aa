//! What can go wrong with a request, from its decoding to its answer.
//!
//! Each variant names the thing and, where the caller can mend it, the mend. `grpc::status` maps
//! them to status codes, in one table.

use forebay_proto::ProtocolError;

use crate::{admission, device, model, signature};

/// Why a request was not answered with outputs.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The message breaks the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// Typed contents, for whose decoding there is no memory.
    #[error(
        "typed contents take {typed_bytes} bytes to decode; send raw_input_contents, which take none: {cause}"
    )]
    TypedContents {
        /// What they take beside the message.
        typed_bytes: u64,
        /// Why it is not to be had.
        cause: admission::Error,
    },
    /// The request does not fit the model's signature.
    #[error(transparent)]
    Signature(#[from] signature::Error),
    /// No model of that name.
    #[error("Request for unknown model: '{model}' is not found")]
    UnknownModel {
        /// The name.
        model: String,
    },
    /// The model has no such version.
    #[error("Request for unknown model: '{model}' version {version} is not found")]
    UnknownVersion {
        /// The model.
        model: String,
        /// The version asked for.
        version: String,
    },
    /// The version is not a number.
    #[error(
        "model version '{version}' of '{model}' is not a positive integer; leave it empty for the latest"
    )]
    InvalidVersion {
        /// The model.
        model: String,
        /// The version asked for.
        version: String,
    },
    /// The model did not load.
    #[error(
        "Request for unknown model: '{model}' version {version} is not at ready state: {reason}"
    )]
    NotReady {
        /// The model.
        model: String,
        /// The version.
        version: u64,
        /// Why not.
        reason: String,
    },
    /// A request for a stateful model without a sequence id.
    #[error(
        "inference request to model '{model}' must specify a non-zero or non-empty correlation ID: set the parameter sequence_id"
    )]
    MissingSequence {
        /// The model.
        model: String,
    },
    /// A sequence that is not open.
    #[error(
        "inference request for sequence {sequence} to model '{model}' must specify the START flag on the first request of the sequence"
    )]
    MissingStart {
        /// The model.
        model: String,
        /// The sequence.
        sequence: String,
    },
    /// Too many requests wait.
    #[error("Exceeds maximum queue size: {limit} requests wait for model '{model}'; retry later")]
    QueueFull {
        /// The model.
        model: String,
        /// Requests that may wait.
        limit: usize,
    },
    /// No memory for the request.
    #[error(transparent)]
    Admission(#[from] admission::Error),
    /// It was queued for longer than its model lets requests wait.
    #[error("Request timeout expired: the model's queue moves too slowly; retry later")]
    QueueTimeout,
    /// The deadline passed.
    #[error("Request timeout expired")]
    DeadlineExceeded,
    /// The caller has gone.
    #[error("the request was cancelled")]
    Cancelled,
    /// The model failed.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// Answers that are not read take the host's memory.
    #[error(
        "answers that are not read yet take more than twice admission.host_bytes; read them, then send the request again"
    )]
    UnreadAnswers,
    /// The device has too little memory for the request.
    #[error(
        "model '{model}' finds too little memory on its device for {rows} rows: {reason}; set a smaller max_batch_size, or fewer instances"
    )]
    DeviceMemory {
        /// The model.
        model: String,
        /// The rows that did not fit, after a batch was split.
        rows: usize,
        /// What the device says.
        reason: String,
    },
    /// The device had too little memory for a request of a sequence, which may have changed the
    /// sequence's state by then.
    #[error(
        "model '{model}' found too little memory on its device within a sequence, whose state is unknown now: {reason}; begin the sequence anew"
    )]
    SequenceMemory {
        /// The model.
        model: String,
        /// What the device says.
        reason: String,
    },
    /// The model's device, or what parks its requests, has failed, while the request was queued or
    /// before.
    #[error("model '{model}' is not at ready state: {reason}")]
    DeviceLost {
        /// The model.
        model: String,
        /// What the device says.
        reason: String,
    },
    /// The server is going down.
    #[error("GRPC server is shutting down and has stopped accepting new requests.")]
    ShuttingDown,
    /// The connection of a stream has reached its age.
    #[error(
        "the connection has reached its age and ends: open the stream again; what has no answer was not accepted"
    )]
    ConnectionAged,
    /// The request was parked on disk, and does not come back.
    #[error(
        "tensors of the request, or of its answer, were on disk and are lost; it may have been executed: send it again unless it is of a sequence, which is to begin anew"
    )]
    Spill(#[source] forebay_spill::Error),
    /// A stage of the executor panicked.
    #[error("the server failed while it worked on the request; see its log")]
    Lost,
    /// The call is part of the protocol, but not of this server.
    #[error("{0}")]
    Unsupported(&'static str),
}
