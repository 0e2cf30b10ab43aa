//! One bidirectional stream of requests and answers.
//!
//! The whole stream lives in its response side: requests are read, queued and awaited where answers
//! are asked for. So a client that vanishes drops everything at once, and one that does not read
//! its answers is not read either; outputs that have left memory meanwhile come back one answer at
//! a time, when it is sent.
//!
//! Invariant: each request that is read gets one answer, in the order of requests (or as they
//! finish, where the stream's metadata asks), before the stream ends; a status ends the stream only
//! for what concerns it as a whole.

use std::{
    future,
    pin::Pin,
    task::{Context, Poll},
};

use forebay_proto::{
    InferResponse, Parameter, StreamReply,
    inference::{ModelInferRequest, ModelStreamInferResponse},
};
use futures_util::{FutureExt, Stream, StreamExt};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, Streaming};

use super::{outbound::Outgoing, status};
use crate::{
    error::Error,
    inference::{Inference, Origin, Response},
};

mod turns;

use turns::{Reply, Turn, Turns};

/// Metadata with which a stream asks for answers as they finish: `completion`.
pub(super) const ORDER_HEADER: &str = "forebay-response-order";

/// Metadata with which a stream asks to be ended, with its status code, by the first failure.
pub(super) const GRPC_ERROR_HEADER: &str = "triton_grpc_error";

type Item = Result<Outgoing<ModelStreamInferResponse>, Status>;
type Receive = Box<dyn Fn(ModelInferRequest) -> Result<(ModelInferRequest, Origin), Status> + Send>;

/// What a stream asked for in its metadata.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options {
    /// Answers come as they finish.
    pub(super) completion_order: bool,
    /// The first failure ends the stream.
    pub(super) end_on_failure: bool,
    /// Requests that may be queued or run.
    pub(super) max_items: usize,
}

/// When a stream reads no more requests.
#[derive(Debug)]
pub(super) struct Drain {
    /// Its connection is to end.
    pub(super) connection: CancellationToken,
    /// The server is to end, and with it all connections.
    pub(super) server: CancellationToken,
}

impl Drain {
    fn reason(server: &CancellationToken) -> Error {
        if server.is_cancelled() {
            Error::ShuttingDown
        } else {
            Error::ConnectionAged
        }
    }
}

/// The response side of a stream.
pub struct InferStream {
    inference: Inference,
    /// `None` once no more requests are read.
    requests: Option<Streaming<ModelInferRequest>>,
    turns: Turns<Item>,
    receive: Receive,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    server: CancellationToken,
    options: Options,
    /// How the stream ends, where it does not end well.
    end: Option<Status>,
}

impl InferStream {
    /// Makes the response side of a stream of `requests`. `receive` is called for each, in their order,
    /// and `drain` ends the reading.
    pub(super) fn new(
        inference: Inference,
        requests: Streaming<ModelInferRequest>,
        receive: Receive,
        drain: Drain,
        options: Options,
    ) -> Self {
        Self {
            inference,
            requests: Some(requests),
            turns: if options.completion_order {
                Turns::as_finished()
            } else {
                Turns::in_order()
            },
            receive,
            draining: Box::pin(drain.connection.cancelled_owned()),
            server: drain.server,
            options,
            end: None,
        }
    }

    /// Reads requests while there is room for them.
    fn poll_requests(&mut self, cx: &mut Context<'_>) {
        if self.requests.is_some() && self.draining.as_mut().poll(cx).is_ready() {
            self.stop_reading(Some(Drain::reason(&self.server).into()));
        }
        while self.turns.len() < self.options.max_items
            && let Some(requests) = &mut self.requests
        {
            match requests.poll_next_unpin(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.stop_reading(None),
                Poll::Ready(Some(Err(status))) => self.stop_reading(Some(status)),
                Poll::Ready(Some(Ok(message))) => match (self.receive)(message) {
                    Ok((message, origin)) => {
                        let reply = self.begin(message, origin);
                        self.turns.push(reply);
                    }
                    Err(status) => self.stop_reading(Some(status)),
                },
            }
        }
    }

    fn stop_reading(&mut self, end: Option<Status>) {
        self.requests = None;
        self.end = end;
    }

    /// Queues a request, now: requests run in the order in which they were read.
    fn begin(&self, message: ModelInferRequest, mut origin: Origin) -> Reply<Item> {
        let echoed = |name: &str| status::echoed(name).to_owned();
        let (id, model_name) = (echoed(&message.id), echoed(&message.model_name));
        let end_on_failure = self.options.end_on_failure;
        let begun = self
            .inference
            .read(message, &mut origin)
            .and_then(|request| self.inference.begin(request, origin));
        let item = move |answer: Result<(InferResponse, bool), Error>| {
            let (reply, shares_memory) = match answer {
                Ok((response, shares_memory)) => (StreamReply::Answer(response), shares_memory),
                Err(error) if end_on_failure => return Err(status::of_request(&id, &error)),
                Err(error) => {
                    let failure = StreamReply::Failure {
                        message: status::text(&id, &error),
                        id,
                        model_name,
                        code: Some(status::code(&error).into()),
                    };
                    (failure, false)
                }
            };
            let mut message = reply.into();
            mark_final(&mut message);
            Ok(Outgoing {
                message,
                shares_memory,
            })
        };
        let running = match begun {
            Ok(running) => running,
            Err(error) => return Box::pin(future::ready(Turn::Here(item(Err(error))))),
        };
        // Not an async block, which would have room for what runs twice.
        Box::pin(running.answered().map(move |answered| {
            let answered = match answered {
                Ok(answered) => answered,
                Err(error) => return Turn::Here(item(Err(error))),
            };
            let shares_memory = answered.shares_memory();
            let with_memory = move |response| (response, shares_memory);
            match answered.response() {
                Response::Here(response) => Turn::Here(item(Ok(with_memory(response)))),
                Response::Shelved(collecting) => {
                    let collected = collecting.map(move |response| item(response.map(with_memory)));
                    Turn::Shelved(Box::pin(collected))
                }
            }
        }))
    }
}

/// Every answer here is the only one to its request, and clients of Triton look for that in each.
fn mark_final(message: &mut ModelStreamInferResponse) {
    if let Some(response) = &mut message.infer_response {
        let name = "triton_final_response".to_owned();
        response
            .parameters
            .insert(name, Parameter::Bool(true).into());
    }
}

impl Stream for InferStream {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.poll_requests(cx);
        match self.turns.poll_next(cx) {
            Poll::Ready(Some(Err(status))) => {
                self.stop_reading(None);
                self.turns = Turns::in_order();
                Poll::Ready(Some(Err(status)))
            }
            Poll::Ready(None) if self.requests.is_some() => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(self.end.take().map(Err)),
            // A full stream has room again only through an answer, which wakes it.
            reply => reply,
        }
    }
}

impl std::fmt::Debug for InferStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InferStream")
            .field("running", &self.turns.len())
            .field("reading", &self.requests.is_some())
            .finish_non_exhaustive()
    }
}
