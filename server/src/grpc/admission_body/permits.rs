//! The permits of the messages of one call, in their order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use forebay_proto::{Survey, inference::ModelInferRequest, survey};
use prost::Message as _;
use tonic::Status;

use crate::{admission::Permit, error::Error};

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
    /// INVALID_ARGUMENT if it has more items than the protocol's limits allow, RESOURCE_EXHAUSTED if what
    /// its typed contents take does not fit into the budget now, INTERNAL, as tonic says it, if it cannot be
    /// decoded.
    pub fn claim(
        &self,
        shown: ModelInferRequest,
    ) -> Result<(ModelInferRequest, Option<Admitted>), Status> {
        let mut admitted = self.take();
        let message = match &mut admitted {
            Some(Admitted {
                permit,
                message: gathered @ Some(_),
                ..
            }) => {
                let bytes = gathered.take().unwrap_or_default();
                // Else a decoder could be made to take many times what was admitted.
                let Survey { typed_bytes } = survey(&bytes).map_err(Error::from)?;
                permit.try_grow(typed_bytes).map_err(|error| {
                    Status::resource_exhausted(format!(
                        "typed contents take {typed_bytes} bytes to decode; send raw_input_contents, which \
                         take none: {error}"
                    ))
                })?;
                decode(bytes)?
            }
            _ => shown,
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

/// Decodes a message that was gathered. A small tensor gets memory of its own: it may outlive the large
/// ones, as an output that a model passes on, and would keep the whole message for its few bytes.
fn decode(bytes: Bytes) -> Result<ModelInferRequest, Status> {
    const SMALL: usize = 8;
    let length = bytes.len();
    let mut message =
        ModelInferRequest::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
    for raw in &mut message.raw_input_contents {
        if raw.len() < length / SMALL {
            *raw = Bytes::copy_from_slice(raw);
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admission::Budget, memory::Pool};

    #[test]
    fn a_small_tensor_does_not_keep_the_memory_of_a_large_one() {
        let request = ModelInferRequest {
            raw_input_contents: vec![vec![1; 10].into(), vec![2; 100_000].into()],
            ..ModelInferRequest::default()
        };
        let pool = Pool::new(0);
        let bytes = request.encode_to_vec();
        let mut slab = pool.lease(bytes.len());
        slab.copy_from_slice(&bytes);
        let permits = MessagePermits::default();
        permits.push(Admitted {
            permit: Budget::new("test", 1 << 20).charge(1),
            arrived: Instant::now(),
            message: Some(Bytes::from_owner(slab)),
        });
        let (claimed, _) = permits.claim(ModelInferRequest::default()).unwrap();
        assert_eq!(claimed, request);
        let small = claimed.raw_input_contents[0].clone();
        assert!(pool.usage().leased_bytes > 0);
        drop(claimed);
        assert_eq!((pool.usage().leased_bytes, small.len()), (0, 10));
    }
}
