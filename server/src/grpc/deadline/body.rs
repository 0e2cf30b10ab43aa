//! A response body that ends at the call's deadline.
//!
//! A peer that does not read keeps hyper from asking the body for more, so the body cannot watch
//! the clock by itself: a task drops what it holds when the time comes, asked or not.

use std::future::Future;
use std::mem::replace;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;

use super::Limit;
use crate::grpc::trailers;

/// Returns a body that yields what `inner` yields until the limit, and then says that it passed.
pub(super) fn limited(inner: Body, limit: Limit) -> Body {
    if inner.is_end_stream() {
        return inner;
    }
    let state = Arc::new(Mutex::new(State::Open(inner)));
    let watched = Arc::clone(&state);
    let watch = AbortOnDropHandle::new(tokio::spawn(async move {
        tokio::time::sleep_until(limit.at).await;
        let inner = replace(&mut *lock(&watched), State::Cut);
        drop(inner);
    }));
    Body::new(LimitedBody {
        state,
        watch,
        limit,
    })
}

#[derive(Debug)]
struct LimitedBody {
    /// Shared with the watch.
    state: Arc<Mutex<State>>,
    /// Done once it has cut the body.
    watch: AbortOnDropHandle<()>,
    limit: Limit,
}

#[derive(Debug)]
enum State {
    Open(Body),
    /// The deadline has passed, and nobody was told yet.
    Cut,
    Ended,
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let mut state = lock(&this.state);
        match &mut *state {
            State::Open(inner) => {
                let frame = Pin::new(inner).poll_frame(cx);
                if frame.is_pending() && Pin::new(&mut this.watch).poll(cx).is_ready() {
                    // It cuts before it is done, so it was itself cut off: the runtime is ending.
                    *state = State::Ended;
                    return Poll::Ready(None);
                }
                frame
            }
            State::Cut => {
                *state = State::Ended;
                Poll::Ready(Some(Ok(trailers::ending(&this.limit.passed()))))
            }
            State::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &*lock(&self.state) {
            State::Open(inner) => inner.is_end_stream(),
            State::Cut => false,
            State::Ended => true,
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
