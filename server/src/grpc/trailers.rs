//! Ends a response body with a status of our own.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tonic::Status;

/// Returns the last frame of a call that ends with `status`, which carries neither metadata nor
/// details.
pub(super) fn ending(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    status
        .add_header(&mut trailers)
        .expect("a code and a percent-encoded text are fit for a header");
    Frame::trailers(trailers)
}
