//! The arithmetic of a budget, without locks, tasks or wakers.
//!
//! Invariant: `used` is the sum of what was granted and charged and not yet released; reservations
//! are granted in the order in which they came, and none while `used` would pass the capacity.

use std::collections::VecDeque;

/// A byte account with a queue of reservations that do not fit yet. `W` is what the owner needs to
/// tell a waiter that its turn has come.
#[derive(Debug)]
pub(super) struct Ledger<W> {
    capacity: u64,
    used: u64,
    queue: VecDeque<Waiter<W>>,
    /// Bytes of all that is in the queue.
    queued: u64,
    next_ticket: u64,
}

/// Names one waiting reservation. Later ones have greater tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// A reservation whose bytes are now accounted for.
#[derive(Debug)]
pub(super) struct Grant<W> {
    pub(super) waiter: W,
    pub(super) bytes: u64,
}

#[derive(Debug)]
struct Waiter<W> {
    ticket: Ticket,
    bytes: u64,
    waiter: W,
}

impl<W> Ledger<W> {
    pub(super) fn new(capacity: u64) -> Self {
        let queue = VecDeque::new();
        Self {
            capacity,
            used: 0,
            queue,
            queued: 0,
            next_ticket: 0,
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Returns `used` and what the first in the queue waits for.
    pub(super) fn wanted(&self) -> u64 {
        let front = self.queue.front();
        self.used
            .saturating_add(front.map_or(0, |front| front.bytes))
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Returns the bytes that all in the queue wait for.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// Takes `bytes` if they fit and nobody waits, and returns whether it did.
    pub(super) fn try_reserve(&mut self, bytes: u64) -> bool {
        let granted = self.queue.is_empty() && self.fits(bytes);
        if granted {
            self.used += bytes;
        }
        granted
    }

    /// Puts a reservation at the end of the queue. Call it only after [`Self::try_reserve`] refused.
    pub(super) fn enqueue(&mut self, bytes: u64, waiter: W) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.queued += bytes;
        self.queue.push_back(Waiter {
            ticket,
            bytes,
            waiter,
        });
        ticket
    }

    /// Takes `bytes` whether or not they fit.
    pub(super) fn charge(&mut self, bytes: u64) {
        self.used += bytes;
    }

    /// Gives `bytes` back and returns the reservations that fit now.
    pub(super) fn release(&mut self, bytes: u64) -> Vec<Grant<W>> {
        self.used -= bytes;
        self.grant()
    }

    /// Forgets a waiter, if it still waits, and returns those that it held up.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> Vec<Grant<W>> {
        let Ok(index) = self.queue.binary_search_by_key(&ticket, |w| w.ticket) else {
            return Vec::new();
        };
        if let Some(Waiter { bytes, .. }) = self.queue.remove(index) {
            self.queued -= bytes;
        }
        self.grant()
    }

    fn grant(&mut self) -> Vec<Grant<W>> {
        let mut grants = Vec::new();
        while let Some(front) = self.queue.front()
            && self.fits(front.bytes)
            && let Some(Waiter { bytes, waiter, .. }) = self.queue.pop_front()
        {
            self.queued -= bytes;
            self.used += bytes;
            grants.push(Grant { waiter, bytes });
        }
        grants
    }

    fn fits(&self, bytes: u64) -> bool {
        self.used
            .checked_add(bytes)
            .is_some_and(|sum| sum <= self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Reserve(u64),
        Try(u64),
        Charge(u64),
        Release(usize),
        Cancel(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u64..=100).prop_map(Step::Reserve),
            2 => (0u64..=100).prop_map(Step::Try),
            1 => (0u64..=150).prop_map(Step::Charge),
            5 => any::<prop::sample::Index>().prop_map(|i| Step::Release(i.index(1000))),
            2 => any::<prop::sample::Index>().prop_map(|i| Step::Cancel(i.index(1000))),
        ]
    }

    proptest! {
        #[test]
        fn bytes_are_conserved_and_waiters_served_in_order(steps in prop::collection::vec(step(), 1..200)) {
            const CAPACITY: u64 = 100;
            let mut ledger = Ledger::new(CAPACITY);
            let (mut live, mut waiting): (Vec<u64>, Vec<(Ticket, u64, u64)>) = (Vec::new(), Vec::new());
            for (nth, step) in (0u64..).zip(steps) {
                let before = ledger.used();
                let overdraws = matches!(step, Step::Charge(_));
                let grants = match step {
                    Step::Reserve(bytes) if ledger.try_reserve(bytes) => {
                        prop_assert!(waiting.is_empty(), "overtook a waiter");
                        live.push(bytes);
                        Vec::new()
                    }
                    Step::Reserve(bytes) => {
                        waiting.push((ledger.enqueue(bytes, nth), bytes, nth));
                        Vec::new()
                    }
                    Step::Try(bytes) => {
                        if ledger.try_reserve(bytes) {
                            prop_assert!(waiting.is_empty(), "overtook a waiter");
                            live.push(bytes);
                        }
                        Vec::new()
                    }
                    Step::Charge(bytes) => {
                        ledger.charge(bytes);
                        live.push(bytes);
                        Vec::new()
                    }
                    Step::Release(index) if !live.is_empty() => {
                        let bytes = live.swap_remove(index % live.len());
                        ledger.release(bytes)
                    }
                    Step::Cancel(index) if !waiting.is_empty() => {
                        let (ticket, ..) = waiting.remove(index % waiting.len());
                        ledger.cancel(ticket)
                    }
                    Step::Release(_) | Step::Cancel(_) => Vec::new(),
                };
                for Grant { waiter, bytes } in grants {
                    let (_, expected, nth) = waiting.remove(0);
                    prop_assert_eq!((waiter, bytes), (nth, expected), "not first come, first served");
                    live.push(bytes);
                }
                prop_assert_eq!(ledger.used(), live.iter().sum::<u64>());
                prop_assert_eq!(ledger.waiting(), waiting.len());
                prop_assert_eq!(ledger.queued, waiting.iter().map(|(_, bytes, _)| bytes).sum::<u64>());
                if ledger.used() > before && !overdraws {
                    prop_assert!(ledger.used() <= CAPACITY, "a grant overdrew the budget");
                }
                if let Some((_, bytes, _)) = waiting.first() {
                    prop_assert!(ledger.used() + bytes > CAPACITY, "a waiter that fits was left waiting");
                }
            }
        }
    }

    #[test]
    fn a_cancelled_ticket_that_was_granted_already_changes_nothing() {
        let mut ledger = Ledger::new(10);
        assert!(ledger.try_reserve(10));
        let ticket = ledger.enqueue(5, ());
        assert_eq!(ledger.release(10).len(), 1);
        assert!(ledger.cancel(ticket).is_empty());
        assert_eq!(ledger.used(), 5);
    }
}
