//! The permits of the messages of one call, in their order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use forebay_proto::inference::ModelInferRequest;
use prost::Message as _;
use tonic::Status;

use crate::admission::Permit;

/// A message that was let in.
#[derive(Debug)]
pub struct Admitted {
    /// The bytes that it holds.
    pub permit: Permit,
    /// When its prefix came, and it began to wait for them.
    pub arrived: Instant,
    /// The message itself, where it did not go through tonic, which was then handed an empty one.
    pub(super) message: Option<Bytes>,
}

/// Holds one permit for each message that is whole and not yet taken over. Clones share them.
///
/// A handler of `ModelInfer` or `ModelStreamInfer` finds it in the request's extensions and claims each
/// message that it is given. What nobody claims is given back when the call ends.
#[derive(Debug, Clone, Default)]
pub struct MessagePermits {
    queue: Arc<Mutex<VecDeque<Admitted>>>,
}

impl MessagePermits {
    /// Returns the oldest message that was not claimed yet, with its permit. `shown` is what tonic made
    /// of it.
    ///
    /// # Errors
    /// INTERNAL, as tonic says it, if it cannot be decoded.
    pub fn claim(
        &self,
        shown: ModelInferRequest,
    ) -> Result<(ModelInferRequest, Option<Admitted>), Status> {
        let mut admitted = self.take();
        let gathered = admitted.as_mut().and_then(|one| one.message.take());
        let message = match gathered {
            Some(bytes) => ModelInferRequest::decode(bytes)
                .map_err(|error| Status::internal(error.to_string()))?,
            None => shown,
        };
        Ok((message, admitted))
    }

    pub(super) fn take(&self) -> Option<Admitted> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    }

    pub(super) fn push(&self, message: Admitted) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(message);
    }
}
