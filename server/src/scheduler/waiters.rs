//! How many instances wait for work, and how many of them were woken and have not got up yet.
//!
//! A thread that was woken runs later than whoever woke it goes on, so that until then it still seems
//! to wait. Counting both spares the system calls that would wake it again for each job meanwhile.
//!
//! Invariant: no more are counted as woken than will get up, so that nobody sleeps on beside a job because
//! another was thought to be coming. Counting too few costs a system call.

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

    /// Notes that one has got up. Whether it was woken or its time was up, a wake-up is spent: one that
    /// was meant for it may have come too late to be felt, and must not count for another.
    pub(super) fn get_up(&mut self) {
        self.asleep -= 1;
        self.woken = self.woken.saturating_sub(1).min(self.asleep);
    }

    /// Returns whether no instance sleeps.
    #[cfg(test)]
    pub(super) fn is_up(&self) -> bool {
        self.asleep == 0
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
    use proptest::{collection::vec, prelude::*};

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
        waiters.get_up();
        assert_eq!(waiters.wake_one(), Wake::Nobody);
        waiters.sleep();
        assert_eq!(waiters.wake_all(), Wake::All);
        assert_eq!(waiters.wake_all(), Wake::Nobody);
    }

    #[test]
    fn a_wake_up_that_came_too_late_counts_for_nobody_else() {
        let mut waiters = Waiters::default();
        waiters.sleep();
        // Its time was up before, and it has not got up yet.
        assert_eq!(waiters.wake_one(), Wake::One);
        waiters.sleep();
        waiters.get_up();
        assert_eq!(waiters.wake_one(), Wake::One);
    }

    proptest! {
        /// Threads sleep, are woken, time out and get up in any order; a wake-up reaches one that sleeps
        /// in the kernel, if any does. With a job left and a thread asleep, one is sure to get up.
        #[test]
        fn nobody_sleeps_beside_a_job(steps in vec(0..5_u8, 0..200)) {
            let mut waiters = Waiters::default();
            // Asleep in the kernel, and on their way up.
            let (mut sleeping, mut rising) = (0_usize, 0_usize);
            for step in steps {
                match step {
                    0 if sleeping + rising < 4 => {
                        waiters.sleep();
                        sleeping += 1;
                    }
                    1 if sleeping > 0 => (sleeping, rising) = (sleeping - 1, rising + 1),
                    2 if rising > 0 => {
                        waiters.get_up();
                        rising -= 1;
                    }
                    3 => {
                        let woken = match waiters.wake_one() {
                            Wake::Nobody => 0,
                            Wake::One => sleeping.min(1),
                            Wake::All => sleeping,
                        };
                        (sleeping, rising) = (sleeping - woken, rising + woken);
                        prop_assert!(rising > 0 || sleeping == 0);
                    }
                    4 => {
                        let woken = if waiters.wake_all() == Wake::All { sleeping } else { 0 };
                        (sleeping, rising) = (sleeping - woken, rising + woken);
                        prop_assert_eq!(sleeping, 0);
                    }
                    _ => {}
                }
                prop_assert!(waiters.woken <= rising);
            }
        }
    }
}
