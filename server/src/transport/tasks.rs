//! The tasks of the transport, and the two signals that end them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tracks every connection and every call. Clones share one tracker.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    /// Connections finish what they have begun and end.
    drain: CancellationToken,
    /// Connections end now.
    abort: CancellationToken,
    aborted: Arc<AtomicU64>,
}

/// Runs the calls of connections for hyper, which ends them when their connection is dropped.
#[derive(Debug, Clone)]
pub(super) struct CallExecutor {
    tracker: TaskTracker,
}

impl Tasks {
    pub(super) fn new(drain: CancellationToken) -> Self {
        Self {
            tracker: TaskTracker::new(),
            drain,
            abort: CancellationToken::new(),
            aborted: Arc::default(),
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    pub(super) fn call_executor(&self) -> CallExecutor {
        let tracker = self.tracker.clone();
        CallExecutor { tracker }
    }

    pub(super) fn drain_token(&self) -> CancellationToken {
        self.drain.clone()
    }

    pub(super) fn abort_token(&self) -> CancellationToken {
        self.abort.clone()
    }

    /// Lets [`Self::ended`] resolve once the last task has ended.
    pub(super) fn close(&self) {
        self.tracker.close();
    }

    pub(super) async fn ended(&self) {
        self.tracker.wait().await;
    }

    pub(super) fn abort(&self) {
        self.abort.cancel();
    }

    pub(super) fn count_aborted(&self) {
        self.aborted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn aborted(&self) -> u64 {
        self.aborted.load(Ordering::Relaxed)
    }
}

impl<F> hyper::rt::Executor<F> for CallExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.tracker.spawn(call);
    }
}
