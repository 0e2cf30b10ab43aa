//! A gRPC client that can misbehave: HTTP/2 frames by hand.

use std::net::SocketAddr;

use bytes::{Buf as _, Bytes};
use forebay_proto::inference::{ModelInferRequest, ModelStreamInferResponse, ServerLiveRequest};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::harness::within;

pub(super) const INFER: &str = "ModelInfer";
pub(super) const STREAM: &str = "ModelStreamInfer";
pub(super) const LIVE: &str = "ServerLive";

/// One HTTP/2 connection.
pub(super) struct Client {
    send: SendRequest<Bytes>,
    /// Ends with the connection.
    pub(super) connection: JoinHandle<Result<(), h2::Error>>,
}

/// One call on it.
pub(super) struct Call {
    pub(super) send: SendStream<Bytes>,
    head: Option<ResponseFuture>,
    body: Option<RecvStream>,
    received: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address)
            .await
            .expect("the server accepts")
    }

    /// Fails if the server does not complete the handshake of HTTP/2.
    pub(super) async fn try_connect(address: SocketAddr) -> Result<Self, h2::Error> {
        let socket = TcpStream::connect(address)
            .await
            .expect("the server listens");
        let (send, mut connection) = h2::client::handshake(socket).await?;
        let mut pings = connection.ping_pong().expect("asked for once");
        let connection = tokio::spawn(connection);
        pings.ping(h2::Ping::opaque()).await?;
        let send = send.ready().await?;
        Ok(Self { send, connection })
    }

    pub(super) fn call(&mut self, method: &str) -> Call {
        self.call_with(method, &[])
    }

    pub(super) fn call_with(&mut self, method: &str, headers: &[(&str, &str)]) -> Call {
        let mut request =
            Request::post(format!("http://x/inference.GRPCInferenceService/{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("the parts are valid");
        let (head, send) = self.send.send_request(request, false).expect("connected");
        Call {
            send,
            head: Some(head),
            body: None,
            received: Vec::new(),
        }
    }

    /// Asks whether the server lives, and returns how the call ended.
    pub(super) async fn live(&mut self) -> Status {
        let mut call = self.call(LIVE);
        call.send(framed(&ServerLiveRequest {}), true);
        call.ended().await
    }
}

impl Call {
    pub(super) fn send(&mut self, bytes: impl Into<Bytes>, end: bool) {
        self.send
            .send_data(bytes.into(), end)
            .expect("the stream is open");
    }

    /// Returns the next reply of a stream as the permit bytes that the server saw, or how the call
    /// ended.
    pub(super) async fn reply(&mut self) -> Result<String, Status> {
        let reply: ModelStreamInferResponse = self.message().await?;
        Ok(reply.infer_response.unwrap_or_default().id)
    }

    /// Returns how the call ended, skipping replies.
    pub(super) async fn ended(&mut self) -> Status {
        loop {
            if let Err(status) = self.message::<()>().await {
                return status;
            }
        }
    }

    pub(super) async fn message<M: Message + Default>(&mut self) -> Result<M, Status> {
        within(self.next()).await
    }

    async fn next<M: Message + Default>(&mut self) -> Result<M, Status> {
        if let Some(head) = self.head.take() {
            let response = head.await.map_err(reset)?;
            if let Some(status) = status(response.headers()) {
                return Err(status);
            }
            self.body = Some(response.into_body());
        }
        let body = self.body.as_mut().expect("the head came");
        loop {
            if let Some((mut prefix, rest)) = self
                .received
                .split_first_chunk::<5>()
                .map(|(p, r)| (&p[1..], r))
            {
                let length = prefix.get_u32() as usize;
                if rest.len() >= length {
                    let message =
                        M::decode(&rest[..length]).expect("the server's messages are whole");
                    self.received.drain(..5 + length);
                    return Ok(message);
                }
            }
            match body.data().await {
                Some(data) => {
                    let data = data.map_err(reset)?;
                    body.flow_control()
                        .release_capacity(data.len())
                        .expect("just received");
                    self.received.extend_from_slice(&data);
                }
                None => {
                    let trailers = body.trailers().await.map_err(reset)?;
                    return Err(trailers
                        .as_ref()
                        .and_then(status)
                        .expect("calls end with a status"));
                }
            }
        }
    }
}

/// A message and its prefix.
pub(super) fn framed(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    [
        &prefix(u32::try_from(body.len()).expect("short"))[..],
        &body,
    ]
    .concat()
}

/// The five bytes before a message.
pub(super) fn prefix(length: u32) -> [u8; 5] {
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}

/// A framed request to the scripted model `name` with `payload` bytes and a few more.
pub(super) fn infer(name: &str, payload: usize) -> Vec<u8> {
    framed(&ModelInferRequest {
        model_name: name.into(),
        raw_input_contents: vec![Bytes::from(vec![7; payload])],
        ..ModelInferRequest::default()
    })
}

fn status(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

/// A connection or stream that broke, told apart from every status that the server sends.
fn reset(error: h2::Error) -> Status {
    Status::new(Code::Unknown, format!("broken: {error}"))
}
