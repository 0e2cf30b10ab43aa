//! A message to infer on its way in, straight into the memory where its pass reads it.
//!
//! Its first raw tensor begins on a border, so that a pass that it has to itself can use it where it lies.
//! A large one has a slab of the host's pool: memory of its own mapping leaves no hole in a heap when the
//! message has gone to disk.
//!
//! Invariant: what [`Incoming::whole`] returns was written in all of its bytes.

use bytes::Bytes;
use forebay_proto::framing::first_raw_contents;

use crate::memory::{ALIGNMENT, HostBuf, Pool};

/// Shorter messages are of the heap: a slab takes whole pages, and is shared by a lock.
pub(super) const LEAST_SLAB_BYTES: usize = 64 * 1024;

/// Where the first tensor of a message of the heap begins: a cache line, which suits every datatype.
const BORDER: usize = 64;

/// A message of which some bytes are there.
#[derive(Debug)]
pub(super) struct Incoming {
    pool: Pool,
    length: usize,
    placed: Option<Placed>,
}

/// What is there, behind as many bytes as put its first tensor on a border.
#[derive(Debug)]
enum Placed {
    Slab {
        slab: HostBuf,
        start: usize,
        filled: usize,
    },
    Heap {
        memory: Vec<u8>,
        start: usize,
    },
}

impl Incoming {
    /// Expects a message of `length` bytes.
    pub(super) fn new(pool: &Pool, length: usize) -> Self {
        Self {
            pool: pool.clone(),
            length,
            placed: None,
        }
    }

    /// Takes the next bytes, of which there are no more than the message's.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let placed = self.placed.get_or_insert_with(|| {
            let lead = first_raw_contents(bytes).unwrap_or(0);
            match self.length {
                ..LEAST_SLAB_BYTES => Placed::on_heap(self.length, lead),
                _ => Placed::in_slab(&self.pool, self.length, lead),
            }
        });
        placed.put(bytes);
    }

    /// Returns the message, or `None` where bytes are missing.
    pub(super) fn whole(self) -> Option<Bytes> {
        let (filled, start) = match self.placed? {
            Placed::Slab {
                slab,
                start,
                filled,
            } => (Bytes::from_owner(slab).slice(..filled), start),
            Placed::Heap { memory, start } => (Bytes::from(memory), start),
        };
        (filled.len() - start == self.length).then(|| filled.slice(start..))
    }
}

impl Placed {
    fn in_slab(pool: &Pool, length: usize, lead: usize) -> Self {
        let start = lead.next_multiple_of(ALIGNMENT) - lead;
        Self::Slab {
            slab: pool.lease(start + length),
            start,
            filled: start,
        }
    }

    fn on_heap(length: usize, lead: usize) -> Self {
        let mut memory: Vec<u8> = Vec::with_capacity(BORDER + length);
        let start = memory.as_ptr().wrapping_add(lead).align_offset(BORDER);
        memory.resize(start, 0);
        Self::Heap { memory, start }
    }

    fn put(&mut self, bytes: &[u8]) {
        match self {
            Self::Slab { slab, filled, .. } => {
                slab[*filled..][..bytes.len()].copy_from_slice(bytes);
                *filled += bytes.len();
            }
            Self::Heap { memory, .. } => memory.extend_from_slice(bytes),
        }
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
    fn a_message_in_pieces_is_whole_and_its_tensor_begins_on_a_border() {
        for (length, border) in [(1000u32, BORDER), (100_000, ALIGNMENT)] {
            let pool = Pool::new(0);
            let tensor: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            let bytes = request(tensor.clone());
            let mut incoming = Incoming::new(&pool, bytes.len());
            for piece in bytes.chunks(300) {
                incoming.put(piece);
            }
            let message = incoming.whole().unwrap();
            assert_eq!(message, bytes);
            let request = ModelInferRequest::decode(message).unwrap();
            let [raw] = &request.raw_input_contents[..] else {
                panic!("it has one tensor");
            };
            assert_eq!(raw, &tensor);
            assert_eq!(raw.as_ptr().align_offset(border), 0);
            assert_eq!(pool.usage().leased_bytes > 0, border == ALIGNMENT);
            drop(request);
            assert_eq!(pool.usage().leased_bytes, 0);
        }
    }

    #[test]
    fn a_message_of_the_heap_takes_no_more_than_it_and_a_border() {
        let mut incoming = Incoming::new(&Pool::new(0), 1000);
        for piece in [7; 1000].chunks(1) {
            incoming.put(piece);
        }
        let Some(Placed::Heap { memory, .. }) = &incoming.placed else {
            panic!("it is small");
        };
        assert_eq!(memory.capacity(), 1000 + BORDER);
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
