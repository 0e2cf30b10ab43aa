//! One stream of the scripted server: holds back, turns around, fails and ends as told.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use forebay_client::tensor;
use forebay_proto::{
    InferRequest, InferResponse, StreamReply,
    inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    Script,
    service::{echo, what_to_do},
};

type Reply = Result<ModelStreamInferResponse, Status>;

struct Stream {
    script: Arc<Script>,
    replies: mpsc::Sender<Reply>,
    /// `gated` requests, answered one for each permit of the gate.
    gated: VecDeque<InferRequest>,
    /// `turn` requests, answered last first when a `release` comes.
    turned: Vec<InferRequest>,
    unanswered_bytes: usize,
    /// Whether the stream's `loudness` sequence is open.
    in_sequence: bool,
}

pub(crate) fn start(
    script: Arc<Script>,
    inbound: Streaming<ModelInferRequest>,
    first: Option<ModelInferRequest>,
) -> ReceiverStream<Reply> {
    let (replies, outbound) = mpsc::channel(16);
    let stream = Stream {
        script,
        replies,
        gated: VecDeque::new(),
        turned: Vec::new(),
        unanswered_bytes: 0,
        in_sequence: false,
    };
    tokio::spawn(stream.run(inbound, first));
    ReceiverStream::new(outbound)
}

impl Stream {
    async fn run(
        mut self,
        mut inbound: Streaming<ModelInferRequest>,
        first: Option<ModelInferRequest>,
    ) {
        let script = Arc::clone(&self.script);
        if let Some(message) = first {
            self.take(message).await;
        }
        let mut reading = true;
        while reading || !self.gated.is_empty() {
            tokio::select! {
                biased;
                // Ends also where the client has gone while requests are held back.
                () = self.replies.closed() => break,
                message = inbound.message(), if reading => match message {
                    Ok(Some(message)) => {
                        if !self.take(message).await {
                            return;
                        }
                    }
                    Ok(None) | Err(_) => reading = false,
                },
                permit = script.gate.acquire(), if !self.gated.is_empty() => {
                    permit.unwrap().forget();
                    let request = self.gated.pop_front().unwrap();
                    self.answer(request).await;
                }
            }
        }
        self.script.streams_ended.send_modify(|ended| *ended += 1);
    }

    /// Does what a request says. Returns whether the stream goes on.
    async fn take(&mut self, message: ModelInferRequest) -> bool {
        let request = InferRequest::try_from(message).unwrap();
        self.unanswered_bytes += bytes(&request);
        let peak = &self.script.peak_bytes;
        peak.fetch_max(self.unanswered_bytes, Ordering::SeqCst);
        if request.model_name == "loudness" {
            let reply = self.loudness(&request);
            self.send(reply.into()).await;
            return true;
        }
        match what_to_do(&request) {
            "gated" => self.gated.push_back(request),
            "turn" => self.turned.push(request),
            "release" => {
                self.answer(request).await;
                while let Some(request) = self.turned.pop() {
                    self.answer(request).await;
                }
            }
            "fail" => {
                self.unanswered_bytes -= bytes(&request);
                self.send(failure(request.id, Some(8)).into()).await;
            }
            "fail_without_id" => self.send(failure(String::new(), None).into()).await,
            "stray" => {
                let id = "stray".into();
                let response = InferResponse {
                    id,
                    ..Default::default()
                };
                self.send(StreamReply::Answer(response).into()).await;
            }
            "broken" => {
                let response = ModelInferResponse {
                    id: request.id,
                    raw_output_contents: vec![Default::default()],
                    ..Default::default()
                };
                let infer_response = Some(response);
                self.send(ModelStreamInferResponse {
                    infer_response,
                    ..Default::default()
                })
                .await;
            }
            "unavailable" => {
                let _ = self
                    .replies
                    .send(Err(Status::unavailable("shutting down")))
                    .await;
                return false;
            }
            "hang_up" => return false,
            _ => self.answer(request).await,
        }
        true
    }

    /// Answers with the largest sample of the chunk, if the sequence is begun and ended as it should.
    fn loudness(&mut self, request: &InferRequest) -> StreamReply {
        let sequence = request.sequence().unwrap().unwrap();
        let largest = request.inputs[0].data().as_chunks().0.iter();
        let largest = largest
            .copied()
            .map(f32::from_le_bytes)
            .fold(f32::MIN, f32::max);
        if sequence.start == self.in_sequence || largest == f32::MIN {
            return failure(request.id.clone(), None);
        }
        self.in_sequence = !sequence.end;
        StreamReply::Answer(InferResponse {
            id: request.id.clone(),
            outputs: vec![tensor::from_slice("y", &[largest], [1, 1]).unwrap()],
            ..Default::default()
        })
    }

    async fn answer(&mut self, request: InferRequest) {
        self.unanswered_bytes -= bytes(&request);
        self.send(StreamReply::Answer(echo(request)).into()).await;
    }

    async fn send(&self, reply: ModelStreamInferResponse) {
        let _ = self.replies.send(Ok(reply)).await;
    }
}

fn failure(id: String, code: Option<i32>) -> StreamReply {
    StreamReply::Failure {
        id,
        model_name: "m".into(),
        message: "as told".into(),
        code,
    }
}

fn bytes(request: &InferRequest) -> usize {
    usize::try_from(request.input_bytes()).unwrap()
}
