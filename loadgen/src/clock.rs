//! The one clock of a run: monotonic, and virtual where a test pauses it.

use std::time::Instant;

/// Returns the present on the monotonic clock.
///
/// Outside of tests this is [`Instant::now`]; under the runtime's paused clock it is the virtual
/// time, so that the runner's arithmetic can be tested without waiting.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
