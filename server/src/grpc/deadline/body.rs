//! A response body that ends at the call's deadline.
//!
//! A peer that does not read keeps hyper from asking the body for more, so the body cannot watch
//! the clock by itself: what it holds is dropped when the time comes, asked or not. The timer's waker
//! starts a task for that, and not each call, nearly all of which end in time.

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

/// Wakes a reader when dropped.
#[derive(Debug)]
struct Reader(Waker);

impl Cut {
    /// Drops what is left of the body, and then tells its reader.
    fn cut(&self) {
        let mut state = self.lock();
        if !matches!(state.content, Content::Open(_)) {
            return;
        }
        let rest = replace(&mut state.content, Content::Cut);
        // Told also where a handler panics at its end.
        let _reader = state.reader.take().map(Reader);
        drop(state);
        drop(rest);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Cut {
    fn wake(self: Arc<Self>) {
        // Timers also wake when their runtime ends.
        if Instant::now() >= self.limit.at {
            // All timers and sockets of the runtime wait for whoever calls this, and the body may be in use.
            let runtime = self.runtime.clone();
            drop(runtime.spawn(async move { self.cut() }));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.wake_by_ref();
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use tokio::time::sleep_until;

    use super::*;

    /// A body that never yields anything, and tells when it was dropped.
    struct Silent(Arc<AtomicBool>);

    impl http_body::Body for Silent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    impl Drop for Silent {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Returns a body that is cut in `time`, and whether what it was made of is gone.
    fn silent(time: Duration) -> (Body, Arc<AtomicBool>) {
        let gone = Arc::new(AtomicBool::new(false));
        let limit = Limit {
            at: Instant::now() + time,
            timeout: time,
        };
        let inner = Body::new(Silent(Arc::clone(&gone)));
        let body = limited(inner, limit, Box::pin(sleep_until(limit.at)));
        (body, gone)
    }

    async fn status(body: &mut Body) -> String {
        let trailers = body.frame().await.unwrap().unwrap().into_trailers();
        let status = trailers.unwrap()["grpc-status"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(body.frame().await.is_none());
        status
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_is_told_once_the_rest_is_gone() {
        for time in [Duration::ZERO, Duration::from_secs(1)] {
            let (mut body, gone) = silent(time);
            assert_eq!(status(&mut body).await, "4");
            assert!(gone.load(Ordering::Relaxed), "{time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_gone_at_the_deadline_and_not_before() {
        let (mut body, gone) = silent(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(990)).await;
        assert!(!gone.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(gone.load(Ordering::Relaxed));
        assert_eq!(status(&mut body).await, "4");
    }
}
