//! The HTTP/2 limits that a client is told and held to.

use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper_util::rt::TokioTimer;

use super::Config;
use super::tasks::CallExecutor;

/// Between two pings. A peer that vanished without a word holds memory and a slot.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long a ping's answer may take, a busy client's pauses included.
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Larger frames than HTTP/2's own spare work on tensors. A frame is held whole before it is read, so
/// that much larger ones cost memory, and cache misses where they are copied.
pub(super) const MAX_FRAME_BYTES: u32 = 128 * 1024;
/// Metadata has no business being larger, and it is held outside every budget.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// Streams that we reset for the peer's faults before the connection goes: a peer that provokes
/// resets makes work that costs it nothing. hyper's default, named because tonic switches it off.
const MAX_LOCAL_ERROR_RESETS: usize = 1024;
/// Streams reset before we took them up. An honest client cancels few that early.
const MAX_PENDING_ACCEPT_RESETS: usize = 20;
/// Reply bytes that a stream may have in hand for a peer that does not read: one chunk of a large
/// message, so that the encoder is not the one that waits.
const MAX_SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// Returns what makes HTTP/2 connections of sockets.
pub(super) fn builder(config: &Config, executor: CallExecutor) -> Builder<CallExecutor> {
    let mut builder = Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        // Bounds what one connection can have the server hold and run at once.
        .max_concurrent_streams(config.max_concurrent_streams)
        // Several frames a stream: some on their way while one is taken in.
        .initial_stream_window_size(config.stream_window_u32())
        // Room for every stream's window, or streams that wait would stop all others.
        .initial_connection_window_size(config.connection_window_u32())
        // It would override both windows and start them at 64 KiB.
        .adaptive_window(false)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_local_error_reset_streams(MAX_LOCAL_ERROR_RESETS)
        .max_pending_accept_reset_streams(MAX_PENDING_ACCEPT_RESETS)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}
