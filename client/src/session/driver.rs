//! The task that holds a session's stream: sends what is queued, settles what is answered.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use forebay_proto::inference::ModelInferRequest;
use tokio_stream::Stream;
use tonic::metadata::MetadataValue;

use super::shared::Shared;
use crate::{
    error::{Fault, InferError},
    transport::{Probe, Stub},
};

/// Runs the stream to its end. However this ends, also dropped, the session has ended then.
pub(crate) async fn run(service: Stub, shared: Arc<Shared>, completion_order: bool) {
    let ending = Ending(shared);
    let outcome = drive(service, &ending.0, completion_order).await;
    ending.0.end(outcome);
}

async fn drive(
    mut service: Stub,
    shared: &Arc<Shared>,
    completion_order: bool,
) -> Result<(), InferError> {
    let probe = Probe::default();
    let mut call = tonic::Request::new(Outbound(Arc::clone(shared)));
    call.extensions_mut().insert(probe.clone());
    if completion_order {
        let order = MetadataValue::from_static("completion");
        call.metadata_mut().insert("forebay-response-order", order);
    }
    let response = service.model_stream_infer(call).await.map_err(ended)?;
    let mut replies = response.into_inner();
    while let Some(message) = replies.message().await.map_err(ended)? {
        shared.settle(message, probe.next_first_byte())?;
    }
    Ok(())
}

fn ended(status: tonic::Status) -> InferError {
    match Fault::from(status) {
        Fault::Status { code, message } => InferError::StreamEnded { code, message },
        Fault::Transport(source) => InferError::ConnectionLost { source },
    }
}

/// Ends the session when the task ends early: aborted, panicked, or dropped with its runtime. The
/// sending side ends with it, without which the transport would keep the stream.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(Err(InferError::Stopped));
    }
}

/// The messages to send, taken when the transport asks for them.
struct Outbound(Arc<Shared>);

impl Stream for Outbound {
    type Item = ModelInferRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx.waker())
    }
}
