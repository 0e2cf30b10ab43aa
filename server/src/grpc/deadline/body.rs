//! A response body that ends at the call's deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::Limit;
use crate::grpc::trailers;

/// Returns a body that yields what `inner` yields until the limit, and then says that it passed.
pub(super) fn limited(inner: Body, limit: Limit) -> Body {
    let timer = Box::pin(tokio::time::sleep_until(limit.at));
    let inner = Some(inner);
    Body::new(LimitedBody {
        inner,
        timer,
        limit,
    })
}

#[derive(Debug)]
struct LimitedBody {
    /// None once the deadline has passed.
    inner: Option<Body>,
    timer: Pin<Box<Sleep>>,
    limit: Limit,
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        // The clock goes first: a body that always has more would never let it be heard.
        if this.timer.as_mut().poll(cx).is_ready() {
            this.inner = None;
            let ending = trailers::ending(&this.limit.passed());
            return Poll::Ready(Some(Ok(ending)));
        }
        Pin::new(inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner
            .as_ref()
            .is_none_or(|inner| inner.is_end_stream())
    }
}
