//! A large message on its way in, straight into a slab of the host's pool.
//!
//! Memory of its own mapping leaves no hole in a heap when the message has gone to disk, and its first
//! raw tensor begins on a page, so that a pass that it has to itself can use it where it lies.
//!
//! Invariant: what [`Incoming::whole`] returns was written in all of its bytes.

use bytes::Bytes;
use forebay_proto::framing::first_raw_contents;

use crate::memory::{ALIGNMENT, HostBuf, Pool};

/// Shorter messages go through tonic: a slab takes whole pages, and is shared by a lock.
pub(super) const LEAST_BYTES: u32 = 64 * 1024;

/// A message of which some bytes are there.
#[derive(Debug)]
pub(super) struct Incoming {
    pool: Pool,
    length: usize,
    slab: Option<Placed>,
}

#[derive(Debug)]
struct Placed {
    slab: HostBuf,
    start: usize,
    filled: usize,
}

impl Incoming {
    /// Expects a message of `length` bytes.
    pub(super) fn new(pool: &Pool, length: usize) -> Self {
        Self {
            pool: pool.clone(),
            length,
            slab: None,
        }
    }

    /// Takes the next bytes, of which there are no more than the message's.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let placed = self.slab.get_or_insert_with(|| {
            let lead = first_raw_contents(bytes).unwrap_or(0);
            let start = lead.next_multiple_of(ALIGNMENT) - lead;
            Placed {
                slab: self.pool.lease(start + self.length),
                start,
                filled: start,
            }
        });
        placed.slab[placed.filled..][..bytes.len()].copy_from_slice(bytes);
        placed.filled += bytes.len();
    }

    /// Returns the message, or `None` where bytes are missing.
    pub(super) fn whole(self) -> Option<Bytes> {
        let Placed {
            slab,
            start,
            filled,
        } = self.slab?;
        (filled - start == self.length).then(|| Bytes::from_owner(slab).slice(start..filled))
    }
}

#[cfg(test)]
mod tests {
    use forebay_proto::inference::ModelInferRequest;
    use prost::Message as _;

    use super::*;

    fn request(tensor: Vec<u8>) -> Vec<u8> {
        let request = ModelInferRequest {
            model_name: "model".to_owned(),
            raw_input_contents: vec![tensor.into()],
            ..ModelInferRequest::default()
        };
        request.encode_to_vec()
    }

    #[test]
    fn a_message_in_pieces_is_whole_and_its_tensor_begins_on_a_page() {
        let pool = Pool::new(0);
        let tensor: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let bytes = request(tensor.clone());
        let mut incoming = Incoming::new(&pool, bytes.len());
        for piece in bytes.chunks(1000) {
            incoming.put(piece);
        }
        let message = incoming.whole().unwrap();
        assert_eq!(message, bytes);
        let request = ModelInferRequest::decode(message).unwrap();
        let [raw] = &request.raw_input_contents[..] else {
            panic!("it has one tensor");
        };
        assert_eq!(raw, &tensor);
        assert_eq!(raw.as_ptr().align_offset(ALIGNMENT), 0);
        assert!(pool.usage().leased_bytes > 0);
        drop(request);
        assert_eq!(pool.usage().leased_bytes, 0);
    }

    #[test]
    fn what_is_not_whole_is_not_to_be_had() {
        let pool = Pool::new(0);
        let mut incoming = Incoming::new(&pool, 10);
        assert!(Incoming::new(&pool, 10).whole().is_none());
        incoming.put(&[1; 9]);
        assert!(incoming.whole().is_none());
    }
}
