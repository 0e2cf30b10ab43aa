//! How many instances wait for work, and how many of them were woken and have not got up yet.
//!
//! A thread that was woken runs later than whoever woke it goes on, so that until then it still seems
//! to wait. Counting both spares the system calls that would wake it again for each job meanwhile.
//!
//! Invariant: no more are counted as woken than were, so that nobody sleeps on beside a job because
//! another was thought to be coming.

/// The instances that wait at one queue.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    asleep: usize,
    /// Of those, the ones that were woken.
    woken: usize,
}

/// Whom to wake, once the lock is let go: woken under it, they would only wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "nobody is woken yet"]
pub(super) enum Wake {
    Nobody,
    One,
    All,
}

impl Waiters {
    /// Notes that one instance goes to sleep.
    pub(super) fn sleep(&mut self) {
        self.asleep += 1;
    }

    /// Notes that one has got up, because it was woken or since its time was up.
    pub(super) fn get_up(&mut self, timed_out: bool) {
        self.asleep -= 1;
        let woken = self.woken - usize::from(!timed_out && self.woken > 0);
        self.woken = woken.min(self.asleep);
    }

    /// Notes that one more is needed.
    pub(super) fn wake_one(&mut self) -> Wake {
        if self.woken >= self.asleep {
            return Wake::Nobody;
        }
        self.woken += 1;
        Wake::One
    }

    /// Notes that all are needed.
    pub(super) fn wake_all(&mut self) -> Wake {
        if self.woken >= self.asleep {
            return Wake::Nobody;
        }
        self.woken = self.asleep;
        Wake::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_woken_is_not_woken_again_before_it_gets_up() {
        let mut waiters = Waiters::default();
        assert_eq!(waiters.wake_one(), Wake::Nobody);
        waiters.sleep();
        waiters.sleep();
        assert_eq!(waiters.wake_one(), Wake::One);
        assert_eq!(waiters.wake_one(), Wake::One);
        assert_eq!(waiters.wake_one(), Wake::Nobody);
        waiters.get_up(false);
        assert_eq!(waiters.wake_one(), Wake::Nobody);
        waiters.sleep();
        assert_eq!(waiters.wake_all(), Wake::All);
        assert_eq!(waiters.wake_all(), Wake::Nobody);
    }

    #[test]
    fn one_whose_time_is_up_takes_no_wake_up_of_anothers() {
        let mut waiters = Waiters::default();
        waiters.sleep();
        waiters.sleep();
        assert_eq!(waiters.wake_one(), Wake::One);
        waiters.get_up(true);
        // The other was woken, and nobody else sleeps.
        assert_eq!(waiters.wake_one(), Wake::Nobody);
        waiters.get_up(false);
        waiters.sleep();
        assert_eq!(waiters.wake_one(), Wake::One);
        // Woken as its time was up: the wake-up is spent.
        waiters.get_up(true);
        waiters.sleep();
        assert_eq!(waiters.wake_one(), Wake::One);
    }
}
