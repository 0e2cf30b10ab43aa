//! What becomes of the queues when the task that parks requests panics.
//!
//! Invariant: no request waits for tensors that nobody brings back.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tokio::sync::watch;

use crate::scheduler::Scheduler;

/// Why no model takes requests any more.
const PANICKED: &str =
    "the task that parks requests has panicked: see the server's log, and start it again";

/// Runs `work` on `queues`. Where it panics, they fail for good and `failed` is told.
pub(super) async fn watched(
    work: impl Future<Output = ()>,
    queues: &[Arc<Scheduler>],
    failed: &watch::Sender<Option<String>>,
) {
    if AssertUnwindSafe(work).catch_unwind().await.is_ok() {
        return;
    }
    tracing::error!("{PANICKED}");
    for queue in queues {
        queue.fail(PANICKED);
    }
    failed.send_replace(Some(PANICKED.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Error, repository::Scheduling, request::Job};

    #[tokio::test]
    async fn a_panic_ends_the_wait_of_what_was_on_its_way_and_is_told() {
        let queue = Arc::new(Scheduler::new(&Scheduling::Each, 1, 1, 10));
        let (job, answer) = Job::of(Vec::new());
        let pending = queue.submit(job, answer).unwrap();
        let (failed, told) = watch::channel(None);
        let panics = async { panic!("planted") };
        watched(panics, &[Arc::clone(&queue)], &failed).await;
        let answer = tokio::time::timeout(std::time::Duration::from_secs(10), pending).await;
        assert!(matches!(answer, Ok(Err(Error::DeviceLost { reason, .. })) if reason == PANICKED));
        assert_eq!(told.borrow().as_deref(), Some(PANICKED));
        let (job, answer) = Job::of(Vec::new());
        assert!(queue.submit(job, answer).is_err());
    }

    #[tokio::test]
    async fn an_end_in_order_leaves_the_queues_alone() {
        let queue = Arc::new(Scheduler::new(&Scheduling::Each, 1, 1, 10));
        let (failed, told) = watch::channel(None);
        watched(async {}, &[Arc::clone(&queue)], &failed).await;
        assert_eq!((queue.failure(), told.borrow().as_deref()), (None, None));
    }
}
