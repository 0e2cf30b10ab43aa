//! What ends or interrupts the giving out of batches.

use std::time::Instant;

use super::{Batcher, Policy, Queue, Scheduler, queued::Queued, whereabouts::Whereabouts};
use crate::{error::Error, request::Job};

impl Scheduler {
    /// Takes no more jobs; those that are queued still run.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Gives out no more batches, so that the instances end. Jobs are queued as before.
    pub fn suspend(&self) {
        let mut state = self.lock();
        state.suspended = true;
        state.end_stall(Instant::now());
        drop(state);
        self.changed.notify_all();
    }

    /// Gives out batches again, to instances that were made anew.
    pub fn resume(&self) {
        self.lock().suspended = false;
    }

    /// Answers what is queued with errors, and goes on taking jobs. Sequences stay.
    pub fn refuse(&self, error: impl Fn(&Job) -> Error) {
        let mut state = self.lock();
        let jobs = match &mut state.queue {
            Queue::Batches(batcher) => batcher.take_all(),
            Queue::Sequences(_) => Vec::new(),
        };
        state.end_stall(Instant::now());
        state.whereabouts = Whereabouts::default();
        drop(state);
        // Outside the lock, as in `discard`.
        for Queued { job, .. } in jobs {
            let error = error(&job);
            job.reply.send(Err(error));
        }
        // A closed queue's instances wait for it to be empty.
        self.changed.notify_all();
    }

    /// Takes no more jobs, and answers those that are queued: the model's device has failed for
    /// good, or what parks its requests.
    pub fn fail(&self, reason: &str) {
        // The first reason is the one.
        let _known = self.failure.set(reason.to_owned());
        let queue = {
            let mut state = self.lock();
            state.closed = true;
            state.end_stall(Instant::now());
            state.whereabouts = Whereabouts::default();
            // Nothing is pushed to it any more.
            let none = Queue::Batches(Batcher::new(Policy::each()));
            std::mem::replace(&mut state.queue, none)
        };
        self.changed.notify_all();
        // Outside the lock, as in `discard`.
        let jobs = match queue {
            Queue::Batches(mut batcher) => {
                let queued = batcher.take_all().into_iter();
                queued.map(|queued| queued.job).collect()
            }
            Queue::Sequences(sequences) => sequences.into_values(),
        };
        for job in jobs {
            let error = lost(&job, reason);
            job.reply.send(Err(error));
        }
    }

    /// Returns why the model takes no more requests, where its device has failed.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}

/// Returns what a job is answered whose model's device has failed.
pub(super) fn lost(job: &Job, reason: &str) -> Error {
    Error::DeviceLost {
        model: job.model.clone(),
        reason: reason.to_owned(),
    }
}
