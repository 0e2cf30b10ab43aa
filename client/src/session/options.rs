//! Settings of a session.

use tokio::sync::Semaphore;

use crate::error::InferError;

/// Settings of a [`Session`](crate::Session).
#[derive(Debug, Clone)]
#[must_use]
pub struct StreamOptions {
    pub(crate) bytes_in_flight: usize,
    pub(crate) requests_in_flight: usize,
    pub(crate) completion_order: bool,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            bytes_in_flight: 64 << 20,
            requests_in_flight: 1024,
            completion_order: false,
        }
    }
}

impl StreamOptions {
    /// Sets how many bytes of request tensors may be unanswered. Defaults to 64 MiB.
    pub fn with_bytes_in_flight(mut self, bytes: usize) -> Self {
        self.bytes_in_flight = bytes;
        self
    }

    /// Sets how many requests may be unanswered. Defaults to 1024.
    pub fn with_requests_in_flight(mut self, requests: usize) -> Self {
        self.requests_in_flight = requests;
        self
    }

    /// Asks for replies as they are ready (`true`) or in the order of the requests (`false`).
    /// Servers other than Forebay may not know this. Defaults to the order of the requests.
    pub fn with_completion_order(mut self, completion_order: bool) -> Self {
        self.completion_order = completion_order;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), InferError> {
        let settings = [
            ("with_bytes_in_flight", self.bytes_in_flight),
            ("with_requests_in_flight", self.requests_in_flight),
        ];
        let largest = Semaphore::MAX_PERMITS;
        match settings
            .into_iter()
            .find(|(_, value)| !(1..=largest).contains(value))
        {
            None => Ok(()),
            Some((option, value)) => Err(InferError::InvalidOption {
                option,
                value,
                largest,
            }),
        }
    }
}
