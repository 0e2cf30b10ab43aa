//! Answers with large tensors, past tonic's encoder.
//!
//! [`OutboundLayer`] puts [`Answers`] into each request's extensions. Where a handler left its answer
//! there, the response's body is joined with it: the tensor's own bytes go to the socket, and what they
//! hold of the budget is given back once they have left.
//!
//! Invariant: no more than half of the budget, and one answer, waits so for clients that do not read, and
//! what is left can take the largest message. Copies, of which the budget does not know, are made where
//! it would be more; HTTP/2 takes few of them from a stream that is not read.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use forebay_proto::pieces::{Aside, InPieces, Rejoined};
use futures_util::{Stream, StreamExt as _};
use http::{Request, Response};
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use crate::admission::{self, Budget};

/// Lets answers to requests to infer go past the encoder of the service under it.
#[derive(Debug, Clone)]
pub struct OutboundLayer {
    room: Room,
}

/// The service that [`OutboundLayer`] makes.
#[derive(Debug, Clone)]
pub struct Outbound<S> {
    inner: S,
    room: Room,
}

/// The answers of one call. Clones share them.
#[derive(Debug, Clone)]
pub struct Answers {
    aside: Aside,
    room: Room,
}

/// The budget, and how much of it may be used where an answer keeps its bytes of it.
#[derive(Debug, Clone)]
struct Room {
    budget: Budget,
    most: u64,
}

/// An answer that can be sent.
#[derive(Debug)]
pub struct Outgoing<M> {
    /// The answer.
    pub message: M,
    /// Whether it keeps memory of other answers.
    pub shares_memory: bool,
}

/// A stream's answers as its encoder is given them.
#[derive(Debug)]
pub struct Sent<S> {
    outgoing: S,
    answers: Option<Answers>,
}

/// A response whose body may lack what was put aside.
#[derive(Debug)]
pub struct Joining<F> {
    response: F,
    aside: Option<Aside>,
    /// Whether messages may be put aside after the response's head.
    is_stream: bool,
}

impl OutboundLayer {
    /// Returns a layer for answers that hold bytes of `budget`, for which messages within the limits of
    /// `config` wait.
    pub fn new(budget: Budget, config: &admission::Config) -> Self {
        let all = budget.capacity();
        let besides = all.saturating_sub(config.max_message_bytes.as_u64());
        let most = besides.min(all / 2);
        let room = Room { budget, most };
        Self { room }
    }
}

impl Room {
    fn is_short(&self) -> bool {
        self.budget.used() > self.most
    }
}

impl<M: InPieces + Default> Outgoing<M> {
    /// Returns what the encoder is to be given: nothing of an answer that goes past it.
    pub(super) fn send(self, answers: Option<&Answers>) -> M {
        let Self {
            message,
            shares_memory,
        } = self;
        match answers {
            Some(answers) if message.is_large() && !shares_memory && !answers.room.is_short() => {
                answers.aside.take(message)
            }
            _ => message,
        }
    }
}

impl<S> Sent<S> {
    /// Sends what `outgoing` yields, large answers past the encoder where there are `answers`.
    pub(super) fn new(outgoing: S, answers: Option<Answers>) -> Self {
        Self { outgoing, answers }
    }
}

impl<S, M> Stream for Sent<S>
where
    S: Stream<Item = Result<Outgoing<M>, Status>> + Unpin,
    M: InPieces + Default,
{
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { outgoing, answers } = &mut *self;
        let answers = answers.as_ref();
        // The encoder, which holds the empty message that stands for an answer, hands that on and asks
        // again once the answer has left. It would take more of them than can be sent.
        if answers.is_some_and(|answers| !answers.aside.is_empty()) {
            return Poll::Pending;
        }
        let next = ready!(outgoing.poll_next_unpin(cx));
        Poll::Ready(next.map(|next| next.map(|outgoing| outgoing.send(answers))))
    }
}

impl<S> Layer<S> for OutboundLayer {
    type Service = Outbound<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let room = self.room.clone();
        Outbound { inner, room }
    }
}

impl<S, B> Service<Request<B>> for Outbound<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Joining<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next();
        let is_stream = method == Some("ModelStreamInfer");
        let aside = (is_stream || method == Some("ModelInfer")).then(Aside::default);
        if let Some(aside) = &aside {
            request.extensions_mut().insert(Answers {
                aside: aside.clone(),
                room: self.room.clone(),
            });
        }
        Joining {
            response: self.inner.call(request),
            aside,
            is_stream,
        }
    }
}

impl<F, E> Future for Joining<F>
where
    F: Future<Output = Result<Response<Body>, E>> + Unpin,
{
    type Output = Result<Response<Body>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(Pin::new(&mut self.response).poll(cx))?;
        let is_stream = self.is_stream;
        let aside = self.aside.take();
        Poll::Ready(Ok(
            match aside.filter(|aside| is_stream || !aside.is_empty()) {
                Some(aside) => response.map(|body| Body::new(Rejoined::new(body, aside))),
                None => response,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use bytes::Bytes;
    use forebay_proto::inference::ModelInferResponse;
    use http_body_util::{BodyExt as _, Full};
    use prost::Message as _;
    use tonic::codec::{EncodeBody, SingleMessageCompressionOverride};
    use tonic_prost::ProstEncoder;

    use super::*;

    /// Answers as a handler under an encoder.
    #[derive(Clone)]
    struct Handler(ModelInferResponse, bool);

    impl Service<Request<()>> for Handler {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<()>) -> Self::Future {
            let answer = self.0.clone();
            let answer = Outgoing {
                message: answer,
                shares_memory: self.1,
            };
            let answer = answer.send(request.extensions().get());
            let body = Full::from(framed(&answer));
            ready(Ok(Response::new(Body::new(body))))
        }
    }

    /// For messages of up to 400 bytes.
    fn layer(budget: &Budget) -> OutboundLayer {
        let config = admission::Config {
            max_message_bytes: bytesize::ByteSize(400),
            ..admission::Config::default()
        };
        OutboundLayer::new(budget.clone(), &config)
    }

    fn framed(answer: &ModelInferResponse) -> Vec<u8> {
        let length = u32::try_from(answer.encoded_len()).unwrap().to_be_bytes();
        [&[0], &length[..], &answer.encode_to_vec()].concat()
    }

    async fn frames(budget: &Budget, method: &str, handler: Handler) -> Vec<Bytes> {
        let uri = format!("/inference.GRPCInferenceService/{method}");
        let request = Request::builder().uri(uri).body(()).unwrap();
        let mut service = layer(budget).layer(handler);
        let response = service.call(request).await.unwrap();
        let mut body = response.into_body();
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        frames
    }

    fn answer(tensor: Bytes) -> ModelInferResponse {
        ModelInferResponse {
            id: "1".to_owned(),
            raw_output_contents: vec![tensor],
            ..ModelInferResponse::default()
        }
    }

    #[tokio::test]
    async fn a_large_tensor_leaves_as_it_lies_where_that_keeps_no_memory_that_others_need() {
        let budget = Budget::new("test", 1000);
        let tensor = Bytes::from(vec![7; 100_000]);
        for (method, used, shares_memory, is_sent) in [
            ("ModelInfer", 0, false, true),
            ("ModelStreamInfer", 500, false, true),
            ("ModelStreamInfer", 501, false, false),
            ("ModelInfer", 0, true, false),
            ("ModelConfig", 0, false, false),
        ] {
            let _used = budget.charge(used);
            let handler = Handler(answer(tensor.clone()), shares_memory);
            let expected = framed(&handler.0);
            let frames = frames(&budget, method, handler).await;
            assert!(frames.concat() == expected, "{method}");
            let sent = frames.iter().any(|frame| frame.as_ptr() == tensor.as_ptr());
            assert_eq!(sent, is_sent, "{method} {used} {shares_memory}");
        }
    }

    #[tokio::test]
    async fn no_more_answers_are_taken_than_can_be_sent() {
        let taken = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&taken);
        let outgoing = futures_util::stream::iter((0..3).map(move |_| {
            counts.fetch_add(1, Ordering::Relaxed);
            Ok(Outgoing {
                message: answer(vec![7; 100_000].into()),
                shares_memory: false,
            })
        }));
        let answers = Answers {
            aside: Aside::default(),
            room: layer(&Budget::new("test", 1000)).room,
        };
        let aside = answers.aside.clone();
        let encoder = ProstEncoder::<ModelInferResponse>::default();
        let sent = Sent::new(outgoing, Some(answers));
        let whole = SingleMessageCompressionOverride::default();
        let body = EncodeBody::new_server(encoder, sent, None, whole, None);
        let mut body = Rejoined::new(Body::new(body), aside);
        for nth in 1..=3 {
            // What comes before the tensor, and the tensor.
            for _piece in 0..2 {
                let frame = body.frame().await.unwrap().unwrap();
                assert!(frame.is_data());
                assert_eq!(taken.load(Ordering::Relaxed), nth);
            }
        }
        assert!(body.frame().await.unwrap().unwrap().is_trailers());
    }
}
