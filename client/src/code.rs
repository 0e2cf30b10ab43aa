//! Status codes, as gRPC numbers them.

use std::fmt;

/// What kind of failure a server reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Nothing failed.
    Ok,
    /// The call was cancelled.
    Cancelled,
    /// The server did not say what failed.
    Unknown,
    /// The request can never succeed as it is.
    InvalidArgument,
    /// The deadline passed before the answer was there.
    DeadlineExceeded,
    /// No such model or version.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// The caller may not do this.
    PermissionDenied,
    /// A limit or quota is used up at the moment.
    ResourceExhausted,
    /// The server is not in the state that the request needs.
    FailedPrecondition,
    /// What the request was part of broke off and has to begin anew: on Forebay, a sequence for which
    /// the device had too little memory.
    Aborted,
    /// Past the valid range, or a message larger than its limit.
    OutOfRange,
    /// The server does not have this operation.
    Unimplemented,
    /// The server or the model is broken.
    Internal,
    /// The server cannot serve at the moment.
    Unavailable,
    /// Data was lost or damaged: the request's, or that of its answer.
    DataLoss,
    /// The caller did not say who it is.
    Unauthenticated,
}

/// What may be done about a code, decided in one place.
pub(crate) struct Meaning {
    pub(crate) name: &'static str,
    /// Whether the same request may succeed later.
    pub(crate) retryable: bool,
    /// Whether the code, when a server sends it, says that the request was not executed, or left no
    /// state behind.
    pub(crate) unexecuted: bool,
    /// What the caller can do, for error texts.
    pub(crate) mend: &'static str,
}

impl Code {
    pub(crate) const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// Returns the code with gRPC's number `code`; numbers that gRPC does not know are
    /// [`Unknown`](Self::Unknown).
    pub fn from_i32(code: i32) -> Self {
        usize::try_from(code)
            .ok()
            .and_then(|index| Self::ALL.get(index))
            .copied()
            .unwrap_or(Self::Unknown)
    }

    pub(crate) fn meaning(self) -> Meaning {
        let (name, retryable, unexecuted, mend) = match self {
            Self::Ok => ("OK", false, false, "nothing is to be done"),
            Self::Cancelled => (
                "CANCELLED",
                false,
                false,
                "send it again if it is still wanted",
            ),
            Self::Unknown => ("UNKNOWN", false, false, "look at the server's log"),
            Self::InvalidArgument => ("INVALID_ARGUMENT", false, true, "correct the request"),
            Self::DeadlineExceeded => (
                "DEADLINE_EXCEEDED",
                false,
                false,
                "allow more time or send less load",
            ),
            Self::NotFound => (
                "NOT_FOUND",
                false,
                true,
                "check the model's name and version against the repository index",
            ),
            Self::AlreadyExists => ("ALREADY_EXISTS", false, true, "use what exists"),
            Self::PermissionDenied => ("PERMISSION_DENIED", false, true, "ask for access"),
            Self::ResourceExhausted => (
                "RESOURCE_EXHAUSTED",
                true,
                true,
                "retry after a pause or send less at once",
            ),
            Self::FailedPrecondition => (
                "FAILED_PRECONDITION",
                false,
                true,
                "bring the server into the state that the text names",
            ),
            Self::Aborted => (
                "ABORTED",
                false,
                false,
                "the state of its sequence is unknown: begin the sequence anew",
            ),
            Self::OutOfRange => (
                "OUT_OF_RANGE",
                false,
                // The transport's own word as well, for a reply longer than this client takes.
                false,
                "send smaller messages or raise the limit",
            ),
            Self::Unimplemented => (
                "UNIMPLEMENTED",
                false,
                true,
                "use an operation that the server has",
            ),
            Self::Internal => ("INTERNAL", false, false, "look at the server's log"),
            Self::Unavailable => ("UNAVAILABLE", true, true, "retry after a pause"),
            Self::DataLoss => (
                "DATA_LOSS",
                false,
                false,
                "it may have run: send it again if it is of no sequence, else begin the sequence anew",
            ),
            Self::Unauthenticated => ("UNAUTHENTICATED", false, true, "send credentials"),
        };
        Meaning {
            name,
            retryable,
            unexecuted,
            mend,
        }
    }
}

impl From<tonic::Code> for Code {
    fn from(code: tonic::Code) -> Self {
        Self::from_i32(code.into())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.meaning().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_grpc() {
        for number in 0..17 {
            let theirs = tonic::Code::from(number);
            assert_eq!(Code::from(theirs), Code::from_i32(number));
            let name = Code::from(theirs)
                .to_string()
                .replace('_', "")
                .to_lowercase();
            assert_eq!(name, format!("{theirs:?}").to_lowercase());
        }
        assert_eq!(Code::from_i32(17), Code::Unknown);
        assert_eq!(Code::from_i32(-1), Code::Unknown);
    }
}
