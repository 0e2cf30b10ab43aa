//! A message as it goes onto the wire, in pieces, so that its large tensors need not be copied.
//!
//! Raw tensors are the last field of every message that has them. So what comes before them, each one's
//! key and length, and the short ones go into buffers, and between those the long ones stand as they
//! are. Joined, the pieces are what prost would have written, behind gRPC's prefix.

mod body;

use std::mem::take;

use bytes::{BufMut, Bytes, BytesMut};
use prost::{Message, encode_length_delimiter, length_delimiter_len};

use crate::inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};

pub use body::{Aside, Rejoined};

/// Messages whose tensors are shorter together are better sent whole.
const LEAST_BYTES: usize = 64 * 1024;

/// Shorter tensors are copied: a piece costs a frame and its write.
const LEAST_PIECE_BYTES: usize = 16 * 1024;

/// How protobuf tells of a field that is preceded by its length.
const LENGTH_DELIMITED: u8 = 2;

/// A message with tensors.
pub trait InPieces: Sized {
    /// Returns whether its tensors are so large that they had better not be copied.
    fn is_large(&self) -> bool;

    /// Returns the message behind its prefix, cut around its large tensors.
    ///
    /// # Errors
    /// The message itself where that gains nothing, or where it is longer than gRPC can say.
    fn into_pieces(self) -> Result<Vec<Bytes>, Self>;
}

impl InPieces for ModelInferRequest {
    fn is_large(&self) -> bool {
        are_large(&self.raw_input_contents)
    }

    fn into_pieces(mut self) -> Result<Vec<Bytes>, Self> {
        let Some(mut pieces) = Pieces::of(&self) else {
            return Err(self);
        };
        let tensors = Tensors::new(7, take(&mut self.raw_input_contents));
        pieces.put(&self);
        pieces.put_tensors(tensors);
        Ok(pieces.done())
    }
}

impl InPieces for ModelInferResponse {
    fn is_large(&self) -> bool {
        are_large(&self.raw_output_contents)
    }

    fn into_pieces(mut self) -> Result<Vec<Bytes>, Self> {
        let Some(mut pieces) = Pieces::of(&self) else {
            return Err(self);
        };
        let tensors = Tensors::new(6, take(&mut self.raw_output_contents));
        pieces.put(&self);
        pieces.put_tensors(tensors);
        Ok(pieces.done())
    }
}

impl InPieces for ModelStreamInferResponse {
    fn is_large(&self) -> bool {
        self.infer_response.as_ref().is_some_and(InPieces::is_large)
    }

    fn into_pieces(mut self) -> Result<Vec<Bytes>, Self> {
        let Some(mut pieces) = Pieces::of(&self) else {
            return Err(self);
        };
        let mut response = self.infer_response.take().unwrap_or_default();
        let tensors = Tensors::new(6, take(&mut response.raw_output_contents));
        pieces.put(&self);
        pieces.put_key(2, response.encoded_len() + tensors.encoded_len());
        pieces.put(&response);
        pieces.put_tensors(tensors);
        Ok(pieces.done())
    }
}

fn are_large(tensors: &[Bytes]) -> bool {
    tensors.iter().map(Bytes::len).sum::<usize>() >= LEAST_BYTES
}

/// The raw tensors of a message.
struct Tensors {
    field: u8,
    tensors: Vec<Bytes>,
}

impl Tensors {
    fn new(field: u8, tensors: Vec<Bytes>) -> Self {
        Self { field, tensors }
    }

    fn encoded_len(&self) -> usize {
        let lengths = self.tensors.iter().map(Bytes::len);
        lengths
            .map(|length| 1 + length_delimiter_len(length) + length)
            .sum()
    }
}

struct Pieces {
    done: Vec<Bytes>,
    /// What comes behind them.
    open: BytesMut,
}

impl Pieces {
    /// Begins a message, if its tensors are worth it.
    fn of(message: &(impl Message + InPieces)) -> Option<Self> {
        if !message.is_large() {
            return None;
        }
        let length = u32::try_from(message.encoded_len()).ok()?;
        let mut open = BytesMut::with_capacity(256);
        open.put_u8(0);
        open.put_u32(length);
        let done = Vec::with_capacity(3);
        Some(Self { done, open })
    }

    fn put(&mut self, message: &impl Message) {
        message.encode(&mut self.open).expect("the buffer grows");
    }

    /// Begins a field of `length` bytes.
    fn put_key(&mut self, field: u8, length: usize) {
        self.open.put_u8(field << 3 | LENGTH_DELIMITED);
        encode_length_delimiter(length, &mut self.open).expect("the buffer grows");
    }

    fn put_tensors(&mut self, Tensors { field, tensors }: Tensors) {
        for tensor in tensors {
            self.put_key(field, tensor.len());
            if tensor.len() < LEAST_PIECE_BYTES {
                self.open.extend_from_slice(&tensor);
            } else {
                self.done.push(self.open.split().freeze());
                self.done.push(tensor);
            }
        }
    }

    fn done(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.freeze());
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::framing::PREFIX_BYTES;
    use crate::inference::{InferParameter, model_infer_request, model_infer_response};

    /// Checks that the pieces of a message are what prost writes, and that long tensors are not copied.
    fn check<M: InPieces + Message + Clone>(
        message: &M,
        tensors: &[Bytes],
    ) -> Result<(), TestCaseError> {
        let all: usize = tensors.iter().map(Bytes::len).sum();
        let Ok(pieces) = message.clone().into_pieces() else {
            prop_assert!(all < LEAST_BYTES);
            return Ok(());
        };
        prop_assert!(all >= LEAST_BYTES);
        let encoded = message.encode_to_vec();
        let joined = pieces.concat();
        let length = u32::try_from(encoded.len()).unwrap().to_be_bytes();
        prop_assert_eq!(&joined[..PREFIX_BYTES], &[&[0][..], &length].concat());
        prop_assert!(joined[PREFIX_BYTES..] == encoded);
        let long = tensors
            .iter()
            .filter(|tensor| tensor.len() >= LEAST_PIECE_BYTES);
        for tensor in long {
            prop_assert!(pieces.iter().any(|piece| piece.as_ptr() == tensor.as_ptr()));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn pieces_joined_are_the_message(
            lengths in proptest::collection::vec(
                prop_oneof![0usize..300, 16_000usize..17_000, Just(0x1_0000), 60_000usize..140_000],
                0..5,
            ),
            text in "[a-z]{0,300}",
        ) {
            let tensors: Vec<Bytes> = lengths.iter().enumerate()
                .map(|(n, &length)| vec![u8::try_from(n).unwrap(); length].into()).collect();
            let request = ModelInferRequest {
                model_name: text.clone(),
                id: "7".to_owned(),
                inputs: vec![model_infer_request::InferInputTensor::default(); tensors.len()],
                raw_input_contents: tensors.clone(),
                ..ModelInferRequest::default()
            };
            check(&request, &tensors)?;
            let response = ModelInferResponse {
                model_name: text.clone(),
                parameters: [(text, InferParameter::default())].into(),
                outputs: vec![model_infer_response::InferOutputTensor::default(); tensors.len()],
                raw_output_contents: tensors.clone(),
                ..ModelInferResponse::default()
            };
            check(&response, &tensors)?;
            let streamed = ModelStreamInferResponse {
                error_message: response.id.clone(),
                infer_response: Some(response),
            };
            check(&streamed, &tensors)?;
        }
    }

    #[test]
    fn what_has_no_tensors_stays_whole() {
        let failure = ModelStreamInferResponse {
            error_message: "no".repeat(LEAST_BYTES),
            infer_response: None,
        };
        assert_eq!(failure.clone().into_pieces(), Err(failure));
    }
}
