//! A response body that ends at the call's deadline.
//!
//! A peer that does not read keeps hyper from asking the body for more, so the body cannot watch
//! the clock by itself: the timer's waker drops what it holds when the time comes, asked or not. A task
//! for that would be made, queued and ended for each call, nearly all of which end in time.

use std::future::Future;
use std::mem::replace;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;

use super::Limit;
use crate::grpc::trailers;

/// Returns a body that yields what `inner` yields until the limit, at which `timer` resolves, and then
/// says that it passed.
pub(super) fn limited(inner: Body, limit: Limit, mut timer: Pin<Box<Sleep>>) -> Body {
    if inner.is_end_stream() {
        return inner;
    }
    let state = Mutex::new(State {
        content: Content::Open(inner),
        reader: None,
    });
    let cut = Arc::new(Cut {
        state,
        limit,
        runtime: Handle::current(),
    });
    let waker = Waker::from(Arc::clone(&cut));
    // Without a budget, which would have the waker called in place of being kept.
    let polled = pin!(unconstrained(timer.as_mut())).poll(&mut Context::from_waker(&waker));
    if polled.is_ready() {
        cut.cut();
    }
    Body::new(LimitedBody { cut, _timer: timer })
}

#[derive(Debug)]
struct LimitedBody {
    cut: Arc<Cut>,
    /// Wakes `cut`. Once the body is dropped it wakes nobody.
    _timer: Pin<Box<Sleep>>,
}

/// The body, for who reads it and for the timer.
#[derive(Debug)]
struct Cut {
    state: Mutex<State>,
    limit: Limit,
    runtime: Handle,
}

#[derive(Debug)]
struct State {
    content: Content,
    /// Who waits for a frame.
    reader: Option<Waker>,
}

#[derive(Debug)]
enum Content {
    Open(Body),
    /// The deadline has passed, and nobody was told yet.
    Cut,
    Ended,
}

impl Cut {
    /// Drops what is left of the body.
    fn cut(&self) {
        let mut state = self.lock();
        if !matches!(state.content, Content::Open(_)) {
            return;
        }
        let rest = replace(&mut state.content, Content::Cut);
        let reader = state.reader.take();
        drop(state);
        // What a handler does at its end is not done in the runtime's clockwork.
        drop(self.runtime.spawn(async move { drop(rest) }));
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Cut {
    fn wake(self: Arc<Self>) {
        // Timers also wake when their runtime ends.
        if Instant::now() >= self.limit.at {
            self.cut();
        }
    }
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut state = self.cut.lock();
        match &mut state.content {
            Content::Open(inner) => {
                let frame = Pin::new(inner).poll_frame(cx);
                if frame.is_pending() {
                    match &mut state.reader {
                        Some(reader) => reader.clone_from(cx.waker()),
                        reader => *reader = Some(cx.waker().clone()),
                    }
                }
                frame
            }
            Content::Cut => {
                state.content = Content::Ended;
                Poll::Ready(Some(Ok(trailers::ending(&self.cut.limit.passed()))))
            }
            Content::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.cut.lock().content {
            Content::Open(inner) => inner.is_end_stream(),
            Content::Cut => false,
            Content::Ended => true,
        }
    }
}
