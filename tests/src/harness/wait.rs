//! Waiting for conditions.

use std::{future::Future, time::Duration};

/// Longer than anything that a test waits for.
pub const LONG: Duration = Duration::from_secs(30);

/// Waits for what must come soon.
///
/// # Panics
/// It does not come within [`LONG`].
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work)
        .await
        .expect("comes in good time")
}

/// Waits until `condition` holds, which is looked at again and again.
///
/// # Panics
/// It does not hold within [`LONG`].
pub async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
