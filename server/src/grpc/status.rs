//! The one table from errors to gRPC status codes.

use forebay_proto::{ProtocolError, limits::MAX_NAME_BYTES};
use tonic::{Code, Status};

use crate::{admission, error::Error, model};

/// Returns the status code of an error.
pub fn code(error: &Error) -> Code {
    match error {
        Error::Protocol(
            ProtocolError::SharedMemory { .. } | ProtocolError::Classification { .. },
        )
        | Error::Unsupported(_) => Code::Unimplemented,
        Error::Protocol(_)
        | Error::Signature(_)
        | Error::InvalidVersion { .. }
        | Error::MissingSequence { .. }
        | Error::MissingStart { .. }
        | Error::Model(model::Error::Input { .. }) => Code::InvalidArgument,
        Error::UnknownModel { .. } | Error::UnknownVersion { .. } => Code::NotFound,
        Error::NotReady { .. }
        | Error::QueueFull { .. }
        | Error::QueueTimeout
        | Error::DeviceLost { .. }
        | Error::ConnectionAged
        | Error::ShuttingDown => Code::Unavailable,
        Error::Admission(
            admission::Error::TooLarge { .. } | admission::Error::Exhausted { .. },
        )
        | Error::TypedContents { .. }
        | Error::UnreadAnswers
        | Error::DeviceMemory { .. } => Code::ResourceExhausted,
        // Not as above, which tells clients that nothing was executed.
        Error::SequenceMemory { .. } => Code::Aborted,
        Error::Device(error) if error.is_out_of_memory() => Code::ResourceExhausted,
        Error::Device(error) if error.is_final() => Code::Unavailable,
        Error::Device(crate::device::Error::Model(model::Error::Changed(_))) => Code::Unavailable,
        Error::Spill(_) => Code::DataLoss,
        Error::DeadlineExceeded => Code::DeadlineExceeded,
        Error::Cancelled => Code::Cancelled,
        Error::Device(crate::device::Error::Model(model::Error::Input { .. })) => {
            Code::InvalidArgument
        }
        Error::Model(_) | Error::Device(_) | Error::Lost => Code::Internal,
    }
}

/// Longest text. It goes into a header, where each byte may take three, and clients take no more than
/// 8 KiB of headers. Names that they sent are part of it, and reasons as long as a configuration.
const MAX_TEXT_BYTES: usize = 2048;

/// Returns what is wrong with a request, which its id names where it has one.
pub fn text(id: &str, error: &Error) -> String {
    let text = match echoed(id) {
        "" => error.to_string(),
        id => format!("[request id: {id}] {error}"),
    };
    cut(text)
}

/// Returns a name as it came, or nothing in place of one that is too long to be one.
pub fn echoed(name: &str) -> &str {
    match name.len() {
        0..=MAX_NAME_BYTES => name,
        _ => "",
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let rest = text.len() - MAX_TEXT_BYTES;
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push_str(&format!(" ... ({rest} bytes more)"));
    }
    text
}

/// Returns the status of a request that failed.
pub fn of_request(id: &str, error: &Error) -> Status {
    Status::new(code(error), text(id, error))
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(code(&error), text("", &error))
    }
}
