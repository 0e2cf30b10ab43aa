//! Large messages put aside before the encoder, and joined to its output again.
//!
//! tonic's encoder copies each message into a buffer. So whoever hands it messages first asks
//! [`Aside::take`], which keeps a large one, in pieces, and gives an empty one in its place; and
//! [`Rejoined`], around the encoder's body, puts the pieces where it comes upon that.
//!
//! Invariant: messages leave in the order in which they were handed to the encoder, which must put whole
//! messages into each frame, as tonic's does.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};

use super::InPieces;
use crate::framing::PREFIX_BYTES;

/// The messages of one call that go past its encoder. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Aside {
    messages: Arc<Mutex<VecDeque<Vec<Bytes>>>>,
}

impl Aside {
    /// Returns what the encoder is to be given: the message, or an empty one where it was kept.
    pub fn take<M: InPieces + Default>(&self, message: M) -> M {
        match message.into_pieces() {
            Ok(pieces) => {
                self.lock().push_back(pieces);
                M::default()
            }
            Err(message) => message,
        }
    }

    /// Returns whether all that was kept has left.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn next(&self) -> Option<Vec<Bytes>> {
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<Bytes>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An encoder's body with the messages that were put aside.
#[derive(Debug)]
pub struct Rejoined<B> {
    inner: B,
    aside: Aside,
    ready: VecDeque<Bytes>,
}

impl<B> Rejoined<B> {
    /// Joins what is put `aside` to `inner`.
    pub fn new(inner: B, aside: Aside) -> Self {
        let ready = VecDeque::new();
        Self {
            inner,
            aside,
            ready,
        }
    }

    /// Puts pieces in the place of empty messages.
    fn rejoin(&mut self, mut data: Bytes) {
        let mut at = 0;
        while let Some(prefix) = data.get(at..).and_then(<[u8]>::first_chunk::<PREFIX_BYTES>) {
            let [_, length @ ..] = *prefix;
            let length = u32::from_be_bytes(length) as usize;
            if length == 0
                && let Some(pieces) = self.aside.next()
            {
                self.push(data.split_to(at));
                data.advance(PREFIX_BYTES);
                self.ready.extend(pieces);
                at = 0;
            } else {
                at += PREFIX_BYTES + length;
            }
        }
        self.push(data);
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.ready.push_back(piece);
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Rejoined<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
            if self.aside.is_empty() {
                return Poll::Ready(frame);
            }
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rejoin(data),
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::inference::{ModelInferResponse, ModelStreamInferResponse};

    /// What an encoder makes of a stream of messages.
    struct Encoder {
        frames: VecDeque<Bytes>,
    }

    impl Body for Encoder {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.frames.pop_front().map(Frame::data).map(Ok))
        }

        fn is_end_stream(&self) -> bool {
            self.frames.is_empty()
        }
    }

    fn message(tensor_bytes: usize) -> ModelStreamInferResponse {
        ModelStreamInferResponse {
            infer_response: Some(ModelInferResponse {
                id: tensor_bytes.to_string(),
                raw_output_contents: vec![vec![7; tensor_bytes].into()],
                ..ModelInferResponse::default()
            }),
            ..ModelStreamInferResponse::default()
        }
    }

    fn encode(message: &ModelStreamInferResponse, into: &mut Vec<u8>) {
        let length = u32::try_from(message.encoded_len()).unwrap();
        into.push(0);
        into.extend(length.to_be_bytes());
        message.encode(into).unwrap();
    }

    proptest! {
        #[test]
        fn all_messages_leave_in_their_order(
            frames in proptest::collection::vec(
                proptest::collection::vec(
                    prop_oneof![0usize..100, 70_000usize..70_010],
                    0..5,
                ),
                0..5,
            ),
            is_ahead: bool,
        ) {
            let aside = Aside::default();
            let mut expected = Vec::new();
            let mut encoded = VecDeque::new();
            for messages in &frames {
                let mut frame = Vec::new();
                for message in messages.iter().map(|&bytes| message(bytes)) {
                    encode(&message, &mut expected);
                    encode(&aside.take(message), &mut frame);
                }
                encoded.push_back(frame.into());
            }
            // An empty message is one where nothing was put aside for it.
            if is_ahead {
                encoded.push_back(vec![0; PREFIX_BYTES].into());
                expected.extend([0; PREFIX_BYTES]);
            }
            let mut body = Rejoined::new(Encoder { frames: encoded }, aside.clone());
            let mut sent = Vec::new();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            while !body.is_end_stream() {
                let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(&mut cx) else {
                    panic!("the encoder never waits");
                };
                sent.extend(frame.unwrap().unwrap().into_data().unwrap());
            }
            prop_assert!(sent == expected);
            prop_assert!(aside.is_empty());
        }
    }
}
