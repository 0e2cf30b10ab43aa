//! The permits of the messages of one call, in their order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use forebay_proto::{Survey, inference::ModelInferRequest, names, survey};
use prost::Message as _;
use tonic::Status;

use super::incoming::LEAST_SLAB_BYTES;
use crate::{admission::Permit, error::Error};

/// A message that was let in.
#[derive(Debug)]
pub struct Admitted {
    /// The bytes that it holds.
    pub permit: Permit,
    /// The bytes of the message.
    pub bytes: u64,
    /// When its prefix came, and it began to wait for them.
    pub arrived: Instant,
    /// Why the message is not to be served, of which then only the names were decoded.
    pub refused: Option<Error>,
    /// The message itself, where it did not go through tonic, which was then handed an empty one.
    pub(super) message: Option<Bytes>,
}

impl Admitted {
    pub(super) fn new(permit: Permit, arrived: Instant) -> Self {
        Self {
            bytes: permit.bytes(),
            permit,
            arrived,
            refused: None,
            message: None,
        }
    }
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
    /// One that would take more memory than it was let in with, or has more items than the protocol's limits
    /// allow, is refused by itself.
    ///
    /// # Errors
    /// INTERNAL, as tonic says it, if it cannot be decoded.
    pub fn claim(
        &self,
        shown: ModelInferRequest,
    ) -> Result<(ModelInferRequest, Option<Admitted>), Status> {
        let Some(mut admitted) = self.take() else {
            return Ok((shown, None));
        };
        let Some(bytes) = admitted.message.take() else {
            return Ok((shown, Some(admitted)));
        };
        // Else a decoder could be made to take many times what was admitted.
        let message = match make_room(&bytes, &mut admitted.permit) {
            Ok(()) => decode(bytes)?,
            Err(error) => {
                admitted.refused = Some(error);
                names(&bytes)
            }
        };
        Ok((message, Some(admitted)))
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

/// Has the permit of a message hold what decoding takes beside it, where that can be much.
fn make_room(message: &[u8], permit: &mut Permit) -> Result<(), Error> {
    if message.len() < LEAST_SLAB_BYTES {
        return Ok(());
    }
    let Survey { typed_bytes } = survey(message)?;
    permit.try_grow(typed_bytes).map_err(|cause| {
        permit.count(cause.refusal());
        Error::TypedContents { typed_bytes, cause }
    })
}

/// Decodes a message that was gathered. A small tensor of a large one gets memory of its own: it may outlive
/// the others, as an output that a model passes on, and would keep the whole message for its few bytes.
fn decode(bytes: Bytes) -> Result<ModelInferRequest, Status> {
    const SMALL: usize = 8;
    let length = bytes.len();
    let mut message =
        ModelInferRequest::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
    for raw in &mut message.raw_input_contents {
        if length >= LEAST_SLAB_BYTES && raw.len() < length / SMALL {
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
            message: Some(Bytes::from_owner(slab)),
            ..Admitted::new(Budget::new("test", 1 << 20).charge(1), Instant::now())
        });
        let (claimed, _) = permits.claim(ModelInferRequest::default()).unwrap();
        assert_eq!(claimed, request);
        let small = claimed.raw_input_contents[0].clone();
        assert!(pool.usage().leased_bytes > 0);
        drop(claimed);
        assert_eq!((pool.usage().leased_bytes, small.len()), (0, 10));
    }
}
