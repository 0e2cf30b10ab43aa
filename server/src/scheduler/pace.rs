//! How fast a queue moves, as far as can be told from when requests were taken. Pure.

use std::time::{Duration, Instant};

/// Weight of the latest batch in the average.
const LATEST: f64 = 0.2;

/// The pace of a queue.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When a batch was taken that left others waiting.
    last: Option<Instant>,
    seconds_per_request: Option<f64>,
}

impl Pace {
    /// Notes that `requests` were taken at `now`, and `left` still wait. Times in which nothing
    /// waited tell nothing.
    pub(super) fn taken(&mut self, now: Instant, requests: usize, left: usize) {
        if let Some(last) = self.last
            && requests > 0
        {
            let each = now.saturating_duration_since(last).as_secs_f64() / requests as f64;
            let average = self.seconds_per_request.unwrap_or(each);
            self.seconds_per_request = Some(average + LATEST * (each - average));
        }
        self.last = (left > 0).then_some(now);
    }

    /// Returns when the last of `requests` in line will be taken, or `None` where none was yet.
    pub(super) fn wait_of(&self, requests: usize) -> Option<Duration> {
        let seconds = self.seconds_per_request? * requests as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_told_from_the_requests_taken_and_not_from_idle_times() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(pace.wait_of(1), None);
        pace.taken(at(0), 4, 8);
        pace.taken(at(20), 4, 4);
        assert_eq!(pace.wait_of(8), Some(Duration::from_millis(40)));
        pace.taken(at(40), 4, 0);
        // Nothing waited from here on.
        pace.taken(at(9000), 1, 1);
        assert_eq!(pace.wait_of(8), Some(Duration::from_millis(40)));
    }
}
