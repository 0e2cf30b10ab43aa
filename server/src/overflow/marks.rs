//! When memory is short, in bytes. Pure.
//!
//! Invariant: what is brought back ahead of need is less than what is parked for, so that no tensor
//! goes to and fro while the queue stands still.

/// The marks of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// Above it requests and unread outputs are parked.
    pub(super) high: u64,
    /// Below it requests come back.
    pub(super) low: u64,
    /// Bytes at the head of a queue that are in memory always.
    pub(super) near: u64,
}

impl Marks {
    /// Returns the marks of a budget of `capacity` bytes that `queues` share.
    pub(super) fn new(capacity: u64, high_percent: u8, low_percent: u8, queues: usize) -> Self {
        let percent = |percent: u8| capacity / 100 * u64::from(percent);
        let queues = u64::try_from(queues).unwrap_or(u64::MAX).max(1);
        Self {
            high: percent(high_percent),
            low: percent(low_percent),
            // An eighth at most comes on top of what was admitted.
            near: capacity / 8 / queues,
        }
    }

    /// Returns whether bytes must leave, where `leaving` of the `used` are on their way already.
    pub(super) fn must_park(&self, used: u64, leaving: u64) -> bool {
        used.saturating_sub(leaving) > self.high
    }

    /// Returns how many bytes at the head of a queue should be in memory.
    pub(super) fn horizon(&self, used: u64) -> u64 {
        self.near.max(self.low.saturating_sub(used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parking_counts_what_is_on_its_way_out() {
        let marks = Marks::new(800, 75, 50, 1);
        assert_eq!((marks.high, marks.low, marks.near), (600, 400, 100));
        assert!(!marks.must_park(600, 0));
        assert!(marks.must_park(601, 0));
        assert!(!marks.must_park(700, 100));
    }

    #[test]
    fn the_head_is_always_near_and_an_empty_memory_takes_more() {
        let marks = Marks::new(800, 75, 50, 2);
        assert_eq!(marks.horizon(700), 50);
        assert_eq!(marks.horizon(100), 300);
    }
}
