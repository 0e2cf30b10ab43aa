//! Counts refused connections, and says so without filling the log.

use std::time::Duration;

use tokio::time::Instant;

const SAY_SO_EVERY: Duration = Duration::from_secs(1);

/// Counts, and tells when it is time to log.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    total: u64,
    unsaid: u64,
    last_said: Option<Instant>,
}

impl Refusals {
    /// Counts one, and returns how many to log, if now is the time.
    pub(super) fn count(&mut self, now: Instant) -> Option<u64> {
        self.total += 1;
        self.unsaid += 1;
        let is_due = self
            .last_said
            .is_none_or(|last| now.saturating_duration_since(last) >= SAY_SO_EVERY);
        is_due.then(|| {
            self.last_said = Some(now);
            std::mem::take(&mut self.unsaid)
        })
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_one_line_a_second_that_loses_no_count() {
        let start = Instant::now();
        let mut refusals = Refusals::default();
        assert_eq!(refusals.count(start), Some(1));
        for _ in 0..99 {
            assert_eq!(refusals.count(start + SAY_SO_EVERY / 2), None);
        }
        assert_eq!(refusals.count(start + SAY_SO_EVERY), Some(100));
        assert_eq!(refusals.total(), 101);
    }
}
