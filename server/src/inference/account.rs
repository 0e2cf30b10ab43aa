//! One request's entry in the statistics of its model.
//!
//! Invariant: an entry counts once, when it is closed by its drop: as a failure, unless the request
//! was answered and its outputs were not lost. How long its client took to read is no part of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{request::Timings, statistics::Statistics};

/// An open entry.
#[derive(Debug)]
pub(super) struct Account {
    statistics: Arc<Statistics>,
    began: Instant,
    /// Where the time went, and how long it took until the answer was there.
    answered: Option<(Timings, Duration)>,
}

impl Account {
    /// Opens the entry of a request that came at `began`.
    pub(super) fn open(statistics: Arc<Statistics>, began: Instant) -> Self {
        Self {
            statistics,
            began,
            answered: None,
        }
    }

    /// Notes that the request was answered at `now`.
    pub(super) fn answered(&mut self, timings: Timings, now: Instant) {
        let took = now.saturating_duration_since(self.began);
        self.answered = Some((timings, took));
    }

    /// Closes the entry of a request whose answer was there, and is lost.
    pub(super) fn lost(mut self) {
        self.answered = None;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        match &self.answered {
            Some((timings, took)) => self.statistics.record_success(timings, *took),
            None => self.statistics.record_failure(self.began.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_proto::inference::InferStatistics;

    use super::*;

    /// Returns what is counted of a request that was answered after a second and closed by `close`.
    fn counted(close: impl FnOnce(Account)) -> InferStatistics {
        let statistics = Arc::<Statistics>::default();
        let began = Instant::now();
        let mut account = Account::open(Arc::clone(&statistics), began);
        account.answered(Timings::new(began), began + Duration::from_secs(1));
        close(account);
        statistics.report("m", 1).inference_stats.unwrap()
    }

    #[test]
    fn the_time_ends_with_the_answer_and_not_with_its_reader() {
        let stats = counted(drop);
        let success = stats.success.unwrap();
        assert_eq!((success.count, success.ns), (1, 1_000_000_000));
        assert_eq!(stats.fail.unwrap().count, 0);
    }

    #[test]
    fn outputs_that_are_lost_make_a_failure_of_an_answer() {
        let stats = counted(Account::lost);
        assert_eq!(stats.success.unwrap().count, 0);
        assert_eq!(stats.fail.unwrap().count, 1);
    }
}
