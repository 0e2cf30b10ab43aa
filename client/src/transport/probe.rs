//! Notes when the messages of one call leave and arrive.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use forebay_proto::framing::FrameScanner;
use http_body::{Frame, SizeHint};
use tonic::body::Body;

/// The marks of one call. Travels in its extensions; the caller keeps a clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probe(Arc<Mutex<Marks>>);

#[derive(Debug, Default)]
struct Marks {
    sent: Option<Instant>,
    /// When the messages that were not yet asked for began. Bounded by the messages in one piece
    /// of the body: the decoder takes all of a piece before it asks for the next.
    begun: VecDeque<Instant>,
    scanner: FrameScanner,
}

impl Probe {
    /// Returns when the transport asked for the request's first message.
    pub(crate) fn sent(&self) -> Option<Instant> {
        self.marks().sent
    }

    /// Returns when the next message began to arrive. To be called once for each message, in order.
    pub(crate) fn next_first_byte(&self) -> Option<Instant> {
        self.marks().begun.pop_front()
    }

    fn note_sent(&self, now: Instant) {
        self.marks().sent.get_or_insert(now);
    }

    fn note_received(&self, mut data: &[u8], now: Instant) {
        let marks = &mut *self.marks();
        while !data.is_empty() || marks.scanner.is_mid_message() {
            if !marks.scanner.is_mid_message() {
                marks.begun.push_back(now);
            }
            let (taken, event) = marks.scanner.scan(data);
            data = &data[taken..];
            if event.is_none() {
                break;
            }
        }
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body that notes when it is first asked for.
#[derive(Debug)]
pub(crate) struct Sending {
    body: Body,
    probe: Probe,
}

impl Sending {
    pub(crate) fn new(body: Body, probe: Probe) -> Self {
        Self { body, probe }
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.probe.note_sent(Instant::now());
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body that notes when each of its messages begins.
#[derive(Debug)]
pub(crate) struct Received {
    body: Body,
    probe: Option<Probe>,
}

impl Received {
    pub(crate) fn new(body: Body, probe: Option<Probe>) -> Self {
        Self { body, probe }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(Ok(frame)), Some(probe)) = (&frame, &self.probe)
            && let Some(data) = frame.data_ref()
        {
            probe.note_received(data, Instant::now());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_message_is_marked_by_the_piece_that_begins_it() {
        let messages = [&[0, 0, 0, 0, 2, 7, 7][..], &[0; 5], &[0, 0, 0, 0, 1, 7]].concat();
        let start = Instant::now();
        for cut in 1..=messages.len() {
            let probe = Probe::default();
            let expected = [0, 7, 12].map(|first| start + Duration::from_secs(first / cut as u64));
            for (index, piece) in messages.chunks(cut).enumerate() {
                probe.note_received(piece, start + Duration::from_secs(index as u64));
            }
            assert_eq!(Vec::from(probe.marks().begun.clone()), expected);
        }
    }
}
