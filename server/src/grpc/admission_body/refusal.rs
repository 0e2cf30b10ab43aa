//! What a refused call still sends.
//!
//! It comes for a stream that HTTP/2 has forgotten, if nobody reads it: such frames are counted, and a
//! connection that has many is cut, with all calls on it that were accepted.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

/// For how long it is read, behind the answer, and how much of it.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Reads it, up to a bound, and forgets it. Who sends more, or slowly, has its call reset.
pub(super) async fn forget<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut left = MOST_BYTES;
    let reading = async {
        while left > 0
            && let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
    };
    let _ended = tokio::time::timeout(PATIENCE, reading).await;
}
