//! Wakes instances once the tasks that are ready have had their turn.
//!
//! Requests that arrive together are queued by one task after another. An instance that is woken for the
//! first of them takes the core from the worker that queues the others, where cores are few, and finds
//! a batch of one. So it is woken behind them: later by no more than what the worker has at hand. Large
//! requests come in one by one, and are best used while they are in the cache.
//!
//! Invariant: each wake-up that is owed is given, also where the runtime ends first.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Scheduler, Wake};
use crate::request::Job;

/// Requests with more bytes do not arrive together.
const MOST_BYTES: usize = 64 * 1024;

/// A wake-up, given when it is dropped.
struct Owed {
    scheduler: Arc<Scheduler>,
    wake: Wake,
}

/// Returns whether a job may be one of several that arrive together.
pub(super) fn has_company(job: &Job) -> bool {
    let inputs = job.inputs.iter().flatten();
    inputs.map(|input| input.data().len()).sum::<usize>() <= MOST_BYTES
}

impl Scheduler {
    /// Wakes instances soon, and at once where no runtime is.
    pub(super) fn tell_soon(self: &Arc<Self>, wake: Wake) {
        if wake == Wake::Nobody {
            return;
        }
        let owed = Owed {
            scheduler: Arc::clone(self),
            wake,
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                tokio::task::yield_now().await;
                drop(owed);
            });
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.scheduler.tell(self.wake);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        repository::{DynamicBatching, Scheduling},
        scheduler::Pending,
    };

    /// For how long nobody may take what was queued.
    const WHILE: Duration = Duration::from_millis(50);

    fn queue() -> Arc<Scheduler> {
        let batching = DynamicBatching {
            preferred_batch_sizes: Vec::new(),
            max_queue_delay: Duration::ZERO,
        };
        Arc::new(Scheduler::new(&Scheduling::Dynamic(batching), 8, 1, 100))
    }

    fn submit(queue: &Arc<Scheduler>) -> Pending {
        let (job, answer) = Job::of(Vec::new());
        queue.submit(job, answer).unwrap()
    }

    /// Starts an instance, and returns once it sleeps.
    fn instance(queue: &Arc<Scheduler>) -> thread::JoinHandle<usize> {
        let its = Arc::clone(queue);
        let instance = thread::spawn(move || its.next(0).map_or(0, |jobs| jobs.len()));
        while queue.lock().waiters.is_up() {
            thread::yield_now();
        }
        instance
    }

    #[tokio::test]
    async fn an_instance_wakes_behind_the_tasks_that_are_ready() {
        let queue = queue();
        let instance = instance(&queue);
        let first = submit(&queue);
        let others = Arc::clone(&queue);
        let second = tokio::spawn(async move {
            let until = Instant::now() + WHILE;
            while Instant::now() < until && !others.is_empty() {
                thread::yield_now();
            }
            [submit(&others)]
        });
        let second = second.await.unwrap();
        while !queue.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(instance.join().unwrap(), 2);
        drop((first, second));
    }

    #[test]
    fn a_wake_up_is_given_though_the_runtime_ends() {
        let queue = queue();
        let instance = instance(&queue);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let pending = runtime.block_on(async { [submit(&queue)] });
        drop(runtime);
        assert_eq!(instance.join().unwrap(), 1);
        drop(pending);
    }
}
