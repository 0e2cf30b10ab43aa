//! The task that holds a session's stream: sends what is queued, settles what is answered.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use forebay_proto::{inference::ModelInferRequest, pieces::Aside};
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
    let aside = Aside::default();
    let mut call = tonic::Request::new(Outbound {
        shared: Arc::clone(shared),
        aside: aside.clone(),
    });
    call.extensions_mut().insert(probe.clone());
    call.extensions_mut().insert(aside);
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
struct Outbound {
    shared: Arc<Shared>,
    /// What goes past the encoder, one message at a time.
    aside: Aside,
}

impl Stream for Outbound {
    type Item = ModelInferRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A message counts as sent once it is taken, so that is left until the one ahead of it
        // leaves. Nobody is woken for that: who takes it from there asks the encoder again.
        if !self.aside.is_empty() {
            return Poll::Pending;
        }
        let message = ready!(self.shared.poll_next(cx.waker()));
        Poll::Ready(message.map(|message| self.aside.take(message)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use forebay_proto::pieces::Rejoined;
    use http_body::Body as _;
    use tokio::sync::oneshot;
    use tokio_stream::StreamExt as _;
    use tonic::codec::{Codec as _, EncodeBody};

    use super::*;
    use crate::session::{StreamOptions, ledger::Submission};

    const LARGE: usize = 1 << 20;

    async fn submit(shared: &Shared, tensor: &Bytes) {
        let (reply, _) = oneshot::channel();
        let room = shared.reserve(tensor.len()).await.unwrap();
        shared.submit(Submission {
            message: ModelInferRequest {
                raw_input_contents: vec![tensor.clone()],
                ..ModelInferRequest::default()
            },
            reserved: std::time::Instant::now(),
            deadline: None,
            reply,
            room,
        });
    }

    /// The body of a stream's request, as the transport gets it.
    fn body(shared: Arc<Shared>) -> Rejoined<tonic::body::Body> {
        let aside = Aside::default();
        let outbound = Outbound {
            shared,
            aside: aside.clone(),
        };
        let encoder = tonic_prost::ProstCodec::<_, ()>::default().encoder();
        let encoded = EncodeBody::new_client(encoder, outbound.map(Ok), None, None);
        Rejoined::new(tonic::body::Body::new(encoded), aside)
    }

    fn next(body: &mut Rejoined<tonic::body::Body>) -> Poll<Bytes> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let frame = Pin::new(body).poll_frame(&mut cx);
        frame.map(|frame| frame.unwrap().unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn large_tensors_are_not_copied_and_each_message_waits_for_the_one_ahead() {
        let shared = Arc::new(Shared::new(&StreamOptions::default()));
        let tensors = [Bytes::from(vec![1; LARGE]), Bytes::from(vec![2; LARGE])];
        let mut body = body(Arc::clone(&shared));
        for tensor in &tensors {
            submit(&shared, tensor).await;
        }
        assert!(next(&mut body).is_ready());
        assert_eq!(
            next(&mut body).map(|data| data.as_ptr()),
            Poll::Ready(tensors[0].as_ptr())
        );
        let Poll::Ready(Some(message)) = shared.poll_next(std::task::Waker::noop()) else {
            panic!("the second was taken before the first had left");
        };
        assert_eq!(message.raw_input_contents, tensors[1..]);
        assert!(next(&mut body).is_pending());
        submit(&shared, &tensors[1]).await;
        assert!(next(&mut body).is_ready());
        assert_eq!(
            next(&mut body).map(|data| data.as_ptr()),
            Poll::Ready(tensors[1].as_ptr())
        );
    }
}
