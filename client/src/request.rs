//! What a caller asks of a model.

use std::time::Duration;

use forebay_proto::{InferRequest, Parameter, Tensor};

/// The parameter by which streams carry a timeout.
pub(crate) const TIMEOUT: &str = "timeout";

/// A request for an inference.
///
/// Cheap to clone: the bytes of tensors are shared.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Request {
    message: InferRequest,
    timeout: Option<Duration>,
}

impl Request {
    /// Asks `model`, in the version that the server prefers, for all its outputs.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            message: InferRequest {
                model_name: model.into(),
                ..InferRequest::default()
            },
            timeout: None,
        }
    }

    /// Asks for a version, in decimal. Defaults to the one that the server prefers.
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.message.model_version = version.into();
        self
    }

    /// Sets the id that the reply gives back. Defaults to "".
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.message.id = id.into();
        self
    }

    /// Adds an input tensor.
    pub fn with_input(mut self, input: Tensor) -> Self {
        self.message.inputs.push(input);
        self
    }

    /// Asks for an output by name. Defaults to all outputs.
    pub fn with_output(mut self, name: impl Into<String>) -> Self {
        self.message.outputs.push(name.into());
        self
    }

    /// Sets a parameter of the protocol or of the model.
    pub fn with_parameter(mut self, name: impl Into<String>, value: Parameter) -> Self {
        self.message.parameters.insert(name.into(), value);
        self
    }

    /// Sets how long the answer may take. Defaults to no limit.
    ///
    /// On calls it is a deadline, which both ends keep. On streams it counts from
    /// [`Permit::submit`](crate::Permit::submit), so a wait for room is not part of it. A request that
    /// waits here for longer is not sent ([`InferError::Expired`](crate::InferError::Expired)); one that
    /// is sent carries the time left as the `timeout` parameter, in microseconds rounded up, and the
    /// server is to answer it with a failure when that has passed.
    ///
    /// Nothing here ends the wait for a ticket by itself: one whose request is late is told when the
    /// stream could send it, or when the server answers. A server may also drop the parameter: Forebay
    /// and Triton do for a model with `default_timeout_microseconds` and no `allow_timeout_override`.
    /// For a bound whatever the server does, put `tokio::time::timeout` around the ticket.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes it part of the sequence `id`, which must not be 0: requests of a sequence reach the
    /// same state of the model. `start` opens the sequence, `end` closes it.
    pub fn with_sequence(self, id: u64, start: bool, end: bool) -> Self {
        // Servers that know only one integer type here know the signed one.
        let id = i64::try_from(id).map_or(Parameter::Uint64(id), Parameter::Int64);
        self.with_parameter("sequence_id", id)
            .with_parameter("sequence_start", Parameter::Bool(start))
            .with_parameter("sequence_end", Parameter::Bool(end))
    }

    /// Asks a Forebay server to say where the time went, for
    /// [`Reply::server_timings`](crate::Reply::server_timings).
    pub fn with_server_timings(self) -> Self {
        self.with_parameter("forebay_timings", Parameter::Bool(true))
    }

    /// Returns the model.
    pub fn model(&self) -> &str {
        &self.message.model_name
    }

    /// Returns the id.
    pub fn id(&self) -> &str {
        &self.message.id
    }

    /// Sets the id, for a request that is sent more than once.
    pub fn set_id(&mut self, id: impl Into<String>) {
        self.message.id = id.into();
    }

    /// Sets the model, for a request that is sent to several.
    pub fn set_model(&mut self, model: impl Into<String>) {
        self.message.model_name = model.into();
    }

    /// Returns the bytes of all input tensors: what to [`reserve`](crate::Session::reserve).
    pub fn bytes(&self) -> usize {
        let inputs = self.message.inputs.iter();
        inputs.map(|tensor| tensor.data().len()).sum()
    }

    /// Returns how long the answer may take.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn into_message(self) -> InferRequest {
        self.message
    }

    /// Moves the timeout to where streams carry it.
    pub(crate) fn into_stream_message(mut self) -> InferRequest {
        if let Some(timeout) = self.timeout {
            self = self.with_parameter(TIMEOUT, timeout_parameter(timeout));
        }
        self.message
    }
}

/// Returns `timeout` as streams carry it: in microseconds, rounded up.
pub(crate) fn timeout_parameter(timeout: Duration) -> Parameter {
    // 0 would mean no limit.
    let micros = timeout.as_nanos().div_ceil(1000).max(1);
    Parameter::Int64(i64::try_from(micros).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use forebay_proto::{SequenceControl, SequenceId};

    use super::*;

    #[test]
    fn sequences_read_back_at_the_other_end() {
        for id in [1, u64::MAX] {
            let message = Request::new("m")
                .with_sequence(id, true, false)
                .into_message();
            let expected = SequenceControl {
                id: SequenceId::Number(id),
                start: true,
                end: false,
            };
            assert_eq!(message.sequence(), Ok(Some(expected)));
        }
    }

    #[test]
    fn timeouts_never_round_down_to_none() {
        let timeout = |timeout| {
            let message = Request::new("m")
                .with_timeout(timeout)
                .into_stream_message();
            message.timeout().unwrap().unwrap()
        };
        assert_eq!(timeout(Duration::ZERO), Duration::from_micros(1));
        assert_eq!(
            timeout(Duration::from_nanos(1500)),
            Duration::from_micros(2)
        );
        assert_eq!(timeout(Duration::from_millis(3)), Duration::from_millis(3));
        assert!(timeout(Duration::MAX) > Duration::from_secs(1 << 40));
    }
}
