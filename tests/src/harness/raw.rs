//! A gRPC client that can misbehave: HTTP/2 frames by hand.

use std::net::SocketAddr;

use bytes::Bytes;
use forebay_proto::framing::PREFIX_BYTES;
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::{net::TcpStream, task::JoinHandle};
use tonic::{Code, Status};

use super::within;

/// One HTTP/2 connection.
#[derive(Debug)]
pub struct RawClient {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// One call on it, whose request is still open.
#[derive(Debug)]
pub struct RawCall {
    send: SendStream<Bytes>,
    head: Option<ResponseFuture>,
    body: Option<RecvStream>,
    received: Vec<u8>,
}

impl RawClient {
    /// Connects, and waits until the server has said that it speaks HTTP/2.
    ///
    /// # Panics
    /// It does not.
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address)
            .await
            .expect("the server listens");
        let (send, connection) = h2::client::handshake(socket)
            .await
            .expect("the server speaks HTTP/2");
        let connection = tokio::spawn(connection);
        let send = send.ready().await.expect("the connection is open");
        Self { send, connection }
    }

    /// Waits until the server lets another call begin.
    ///
    /// # Panics
    /// The connection is gone.
    pub async fn ready(&mut self) {
        let ready = within(self.send.clone().ready()).await;
        self.send = ready.expect("the connection is open");
    }

    /// Opens a call of `method`, such as `ModelInfer`, of the inference service, with `headers`
    /// beside those that gRPC needs.
    ///
    /// # Panics
    /// The connection is gone.
    pub fn call(&mut self, method: &str, headers: &[(&str, &str)]) -> RawCall {
        let uri = format!("http://server/inference.GRPCInferenceService/{method}");
        let mut request = Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for &(name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(()).expect("the parts are valid");
        let (head, send) = self
            .send
            .send_request(request, false)
            .expect("the connection is open");
        RawCall {
            send,
            head: Some(head),
            body: None,
            received: Vec::new(),
        }
    }

    /// Cuts the connection, as a peer does that is killed.
    pub fn cut(self) {
        self.connection.abort();
    }
}

impl RawCall {
    /// Sends bytes as they are; `end` closes the request.
    ///
    /// # Panics
    /// The stream is closed.
    pub fn send(&mut self, bytes: impl Into<Bytes>, end: bool) {
        self.send
            .send_data(bytes.into(), end)
            .expect("the stream is open");
    }

    /// Sends bytes, if the stream is still open. Returns whether it was.
    pub fn sends(&mut self, bytes: impl Into<Bytes>) -> bool {
        self.send.send_data(bytes.into(), false).is_ok()
    }

    /// Resets the stream, as a client does that gives up.
    pub fn reset(mut self) {
        self.send.send_reset(Reason::CANCEL);
    }

    /// Returns the next message of the response.
    ///
    /// # Errors
    /// How the call ended, if it has. What broke without a status is UNKNOWN.
    ///
    /// # Panics
    /// Nothing comes, or something that is no message.
    pub async fn message<M: Message + Default>(&mut self) -> Result<M, Status> {
        let body = within(self.next()).await?;
        Ok(M::decode(body).expect("the server's messages are whole"))
    }

    /// Returns how the call ended, skipping messages.
    ///
    /// # Panics
    /// It does not end.
    pub async fn ended(&mut self) -> Status {
        loop {
            if let Err(status) = within(self.next()).await {
                return status;
            }
        }
    }

    async fn next(&mut self) -> Result<Bytes, Status> {
        if let Some(head) = self.head.take() {
            let response = head.await.map_err(broken)?;
            if let Some(status) = Status::from_header_map(response.headers()) {
                return Err(status);
            }
            self.body = Some(response.into_body());
        }
        let body = self.body.as_mut().expect("the head came");
        loop {
            if let Some(message) = cut_message(&mut self.received) {
                return Ok(message);
            }
            let Some(data) = body.data().await else {
                let trailers = body.trailers().await.map_err(broken)?;
                return Err(status(trailers.as_ref()));
            };
            let data = data.map_err(broken)?;
            body.flow_control()
                .release_capacity(data.len())
                .expect("that much was just received");
            self.received.extend_from_slice(&data);
        }
    }
}

/// Takes a whole message, without its prefix, from the front of `received`.
fn cut_message(received: &mut Vec<u8>) -> Option<Bytes> {
    let (&[_flag, length @ ..], rest) = received.split_first_chunk::<PREFIX_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    let message = Bytes::copy_from_slice(rest.get(..length)?);
    received.drain(..PREFIX_BYTES + length);
    Some(message)
}

fn status(trailers: Option<&HeaderMap>) -> Status {
    trailers
        .and_then(Status::from_header_map)
        .unwrap_or_else(|| Status::new(Code::Unknown, "broken: the call ended without a status"))
}

/// A connection or stream that broke, told apart from every status that the server sends.
fn broken(error: h2::Error) -> Status {
    Status::new(Code::Unknown, format!("broken: {error}"))
}

/// Returns `message` with its prefix.
///
/// # Panics
/// It is longer than 4 GiB.
pub fn framed(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).expect("tests send short messages");
    [&prefix(length)[..], &body].concat()
}

/// Returns the bytes before a message of `length` bytes that is not compressed.
pub fn prefix(length: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}
