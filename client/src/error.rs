//! What can go wrong with a call or an inference, and what the caller may do about it.

use std::{error::Error, sync::Arc, time::Duration};

use forebay_proto::ProtocolError;

use crate::code::Code;

/// The cause of an error, shared by all who are told of it.
pub(crate) type Cause = Arc<dyn Error + Send + Sync>;

/// Why an inference brought no reply.
///
/// Cheap to clone: when a stream ends, its error goes to every outstanding ticket.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// The server refused this request, or failed at it. Others on the stream go on.
    #[error("model '{model}' answered {code}: {message}; {}", .code.meaning().mend)]
    Failed {
        /// The model asked for.
        model: String,
        /// The kind of failure; [`Code::Unknown`] where a server does not tell it on streams.
        code: Code,
        /// The server's words.
        message: String,
    },
    /// The server ended the stream with a status. A server that shuts down first answers all that
    /// it accepted, then ends the stream with [`Code::Unavailable`].
    #[error("the server ended the stream with {code}: {message}; {}, on a new session", .code.meaning().mend)]
    StreamEnded {
        /// The status.
        code: Code,
        /// The server's words.
        message: String,
    },
    /// The server ended the stream as if all was done, while it was still in use.
    #[error("the server ended the stream before it was closed; open a new session")]
    EndedEarly,
    /// The connection broke. Whether the server executed the request is not known.
    #[error("the connection to the server was lost; retry if the request may run twice")]
    ConnectionLost {
        /// What the transport reported.
        #[source]
        source: Cause,
    },
    /// The connection was gone, or could not be made, before the request was sent or the stream opened.
    #[error(
        "the connection to the server was lost before the request was sent; check that the server runs, and retry"
    )]
    Unsent {
        /// What the transport reported.
        #[source]
        source: Cause,
    },
    /// The time given by [`Request::with_timeout`](crate::Request::with_timeout) passed here.
    #[error("no reply within {after:?}; allow more time or send less load")]
    DeadlineExceeded {
        /// The time given.
        after: Duration,
    },
    /// The time given by [`Request::with_timeout`](crate::Request::with_timeout) passed while the
    /// request waited here to be sent on a stream. It was not sent.
    #[error(
        "the request waited here for longer than {after:?} and was not sent; allow more time or send less load"
    )]
    Expired {
        /// The time given.
        after: Duration,
    },
    /// The server's reply breaks the protocol.
    #[error(
        "the server's reply breaks the protocol; check that both ends are of matching versions"
    )]
    InvalidReply {
        /// What is wrong with it.
        #[from]
        source: ProtocolError,
    },
    /// The server replied to something that was not asked. The stream ends, as replies can no
    /// longer be told apart.
    #[error(
        "the server sent a reply with id '{id}', which no open request has; models with several replies to one request are not supported"
    )]
    UnexpectedReply {
        /// The id it carried.
        id: String,
    },
    /// More bytes asked for than may ever be in flight.
    #[error(
        "{bytes} bytes exceed the session's limit of {limit} bytes in flight; raise `with_bytes_in_flight` or split the request"
    )]
    LargerThanLimit {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes that may be in flight.
        limit: usize,
    },
    /// The request is larger than the permit it was submitted with.
    #[error("a request of {bytes} bytes on a permit for {reserved}; reserve `request.bytes()`")]
    PermitTooSmall {
        /// Bytes of the request's tensors.
        bytes: usize,
        /// Bytes reserved.
        reserved: usize,
    },
    /// The request is larger than a message may be.
    #[error(
        "a request of {bytes} bytes exceeds the message limit of {limit}; split it or raise `with_max_message_bytes`"
    )]
    MessageTooLarge {
        /// Bytes of the encoded request.
        bytes: usize,
        /// Bytes that a message may have.
        limit: usize,
    },
    /// A setting of the stream is out of its range.
    #[error("{option} is {value}; it must be between 1 and {largest}")]
    InvalidOption {
        /// The method of [`StreamOptions`](crate::StreamOptions).
        option: &'static str,
        /// The value given.
        value: usize,
        /// The largest value allowed.
        largest: usize,
    },
    /// The session was closed before the request was submitted.
    #[error("the session is closed; open a new one")]
    Closed,
    /// The session's task was stopped, with its runtime.
    #[error(
        "the session was stopped with its runtime; keep the runtime until tickets have resolved"
    )]
    Stopped,
}

impl InferError {
    /// Returns whether the same request may succeed when it is sent again, on a new session where
    /// this one ended. Not so with [`Code::Aborted`], where the whole sequence has to begin anew.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Failed { code, .. } | Self::StreamEnded { code, .. } => code.meaning().retryable,
            Self::EndedEarly
            | Self::ConnectionLost { .. }
            | Self::Unsent { .. }
            | Self::Closed
            | Self::Stopped => true,
            Self::DeadlineExceeded { .. }
            | Self::Expired { .. }
            | Self::InvalidOption { .. }
            | Self::InvalidReply { .. }
            | Self::UnexpectedReply { .. }
            | Self::LargerThanLimit { .. }
            | Self::PermitTooSmall { .. }
            | Self::MessageTooLarge { .. } => false,
        }
    }

    /// Returns whether it is certain that the request left no state behind in the server, so that
    /// sending it again cannot change a state twice. Matters for models that keep state between requests.
    ///
    /// Mostly the server did not execute it then. But Forebay answers [`Code::Unavailable`] also where
    /// the device broke during the request's pass, which takes the states of all sequences with it, and
    /// [`Code::ResourceExhausted`] where passes of a request without a sequence ran out of memory.
    ///
    /// That takes the server's word. A proxy between may answer [`Code::Unavailable`] for a server that
    /// has executed the request: it has to retry by rules of its own, or none.
    pub fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Failed { code, .. } => code.meaning().unexecuted,
            // Only a server that drains first answers all it accepted; other codes cut the stream.
            Self::StreamEnded { code, .. } => *code == Code::Unavailable,
            Self::LargerThanLimit { .. }
            | Self::PermitTooSmall { .. }
            | Self::MessageTooLarge { .. }
            | Self::InvalidOption { .. }
            | Self::Unsent { .. }
            | Self::Expired { .. }
            | Self::Closed => true,
            Self::EndedEarly
            | Self::ConnectionLost { .. }
            | Self::DeadlineExceeded { .. }
            | Self::InvalidReply { .. }
            | Self::UnexpectedReply { .. }
            | Self::Stopped => false,
        }
    }

    /// Returns the kind of failure, also where it arose on this side.
    pub fn code(&self) -> Code {
        match self {
            Self::Failed { code, .. } | Self::StreamEnded { code, .. } => *code,
            Self::EndedEarly | Self::ConnectionLost { .. } | Self::Unsent { .. } => {
                Code::Unavailable
            }
            Self::Stopped => Code::Cancelled,
            Self::DeadlineExceeded { .. } | Self::Expired { .. } => Code::DeadlineExceeded,
            Self::InvalidReply { .. } | Self::UnexpectedReply { .. } => Code::Internal,
            Self::LargerThanLimit { .. }
            | Self::PermitTooSmall { .. }
            | Self::InvalidOption { .. } => Code::InvalidArgument,
            Self::MessageTooLarge { .. } => Code::OutOfRange,
            Self::Closed => Code::FailedPrecondition,
        }
    }
}

/// Why a call about the server or its models failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server answered with a status.
    #[error("{call} was answered {code}: {message}; {}", .code.meaning().mend)]
    Failed {
        /// The call.
        call: &'static str,
        /// The kind of failure.
        code: Code,
        /// The server's words.
        message: String,
    },
    /// The connection could not be made again, or broke.
    #[error("{call} lost the connection to the server; check that it runs, and retry")]
    ConnectionLost {
        /// The call.
        call: &'static str,
        /// What the transport reported.
        #[source]
        source: Cause,
    },
    /// The time given by [`Builder::with_call_timeout`](crate::Builder::with_call_timeout) passed.
    #[error(
        "{call} was not answered within {after:?}; check that the server is well, or allow more time"
    )]
    DeadlineExceeded {
        /// The call.
        call: &'static str,
        /// The time given.
        after: Duration,
    },
    /// The server named a datatype that the protocol does not have.
    #[error(
        "{call} was answered with the datatype '{datatype}' for tensor '{tensor}', which the protocol does not have"
    )]
    UnknownDatatype {
        /// The call.
        call: &'static str,
        /// The tensor.
        tensor: String,
        /// Its datatype as it came.
        datatype: String,
    },
}

impl CallError {
    pub(crate) fn new(call: &'static str, status: tonic::Status) -> Self {
        match Fault::from(status) {
            Fault::Status { code, message } => Self::Failed {
                call,
                code,
                message,
            },
            Fault::Transport(source) => Self::ConnectionLost { call, source },
        }
    }

    /// Returns whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Failed { code, .. } => code.meaning().retryable,
            Self::ConnectionLost { .. } => true,
            Self::DeadlineExceeded { .. } | Self::UnknownDatatype { .. } => false,
        }
    }

    /// Returns the kind of failure.
    pub fn code(&self) -> Code {
        match self {
            Self::Failed { code, .. } => *code,
            Self::ConnectionLost { .. } => Code::Unavailable,
            Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            Self::UnknownDatatype { .. } => Code::Internal,
        }
    }
}

/// Whom a status is from: the server, or the transport on this side.
pub(crate) enum Fault {
    Status { code: Code, message: String },
    Transport(Cause),
}

impl From<tonic::Status> for Fault {
    fn from(status: tonic::Status) -> Self {
        // Only a status made on this side has a source. A connection that goes away reads
        // CANCELLED there, which would tell the caller that somebody wanted it.
        if status.source().is_some() && !timed_out(&status) {
            return Self::Transport(Arc::new(status));
        }
        let code = if timed_out(&status) {
            Code::DeadlineExceeded
        } else {
            status.code().into()
        };
        Self::Status {
            code,
            message: status.message().to_owned(),
        }
    }
}

fn timed_out(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
