use std::io;

use super::*;

fn failed(code: Code) -> InferError {
    InferError::Failed {
        model: "m".into(),
        code,
        message: "text".into(),
    }
}

fn stream_ended(code: Code) -> InferError {
    InferError::StreamEnded {
        code,
        message: "text".into(),
    }
}

#[test]
fn retries_are_advised_where_they_can_help() {
    const YES: bool = true;
    const NO: bool = false;
    let source: Cause = Arc::new(io::Error::other("reset"));
    // The error, whether to retry it, and whether it is certain that nothing was executed.
    let table = [
        (failed(Code::ResourceExhausted), YES, YES),
        (failed(Code::Unavailable), YES, YES),
        (failed(Code::Aborted), NO, NO),
        (failed(Code::DataLoss), NO, NO),
        (failed(Code::InvalidArgument), NO, YES),
        (failed(Code::NotFound), NO, YES),
        (failed(Code::Unimplemented), NO, YES),
        (failed(Code::OutOfRange), NO, NO),
        (failed(Code::DeadlineExceeded), NO, NO),
        (failed(Code::Internal), NO, NO),
        (failed(Code::Unknown), NO, NO),
        (failed(Code::Cancelled), NO, NO),
        (stream_ended(Code::Unavailable), YES, YES),
        (stream_ended(Code::ResourceExhausted), YES, NO),
        (stream_ended(Code::InvalidArgument), NO, NO),
        (InferError::EndedEarly, YES, NO),
        (
            InferError::Unsent {
                source: Arc::clone(&source),
            },
            YES,
            YES,
        ),
        (InferError::ConnectionLost { source }, YES, NO),
        (InferError::Closed, YES, YES),
        (InferError::Stopped, YES, NO),
        (
            InferError::DeadlineExceeded {
                after: Duration::ZERO,
            },
            NO,
            NO,
        ),
        (
            InferError::Expired {
                after: Duration::ZERO,
            },
            NO,
            YES,
        ),
        (
            InferError::InvalidReply {
                source: ProtocolError::Missing { what: "x" },
            },
            NO,
            NO,
        ),
        (InferError::UnexpectedReply { id: "7".into() }, NO, NO),
        (InferError::LargerThanLimit { bytes: 2, limit: 1 }, NO, YES),
        (
            InferError::PermitTooSmall {
                bytes: 2,
                reserved: 1,
            },
            NO,
            YES,
        ),
        (InferError::MessageTooLarge { bytes: 2, limit: 1 }, NO, YES),
        (
            InferError::InvalidOption {
                option: "x",
                value: 0,
                largest: 1,
            },
            NO,
            YES,
        ),
    ];
    for (error, retryable, unexecuted) in table {
        assert_eq!(error.is_retryable(), retryable, "{error:?}");
        assert_eq!(error.has_no_side_effects(), unexecuted, "{error:?}");
        assert_ne!(error.code(), Code::Ok, "{error:?}");
    }
}

#[test]
fn what_may_have_run_in_a_sequence_is_not_advised_to_be_sent_again_alone() {
    for code in [Code::Aborted, Code::DataLoss] {
        let text = failed(code).to_string();
        assert!(text.ends_with("begin the sequence anew"), "{text}");
    }
}

#[test]
fn only_a_status_from_the_server_keeps_its_code() {
    let fault = Fault::from(tonic::Status::cancelled("by the server"));
    assert!(matches!(
        fault,
        Fault::Status {
            code: Code::Cancelled,
            ..
        }
    ));
    // How tonic reports a connection that is gone: a status it made from an error.
    let status = tonic::Status::from_error(Box::new(io::Error::other("operation was canceled")));
    let error = CallError::new("ServerLive", status);
    assert!(matches!(error, CallError::ConnectionLost { .. }));
    assert!(error.is_retryable());
    assert_eq!(error.code(), Code::Unavailable);
}
