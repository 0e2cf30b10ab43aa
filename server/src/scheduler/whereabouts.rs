//! Which queued requests have their tensors in memory, and which are parked on disk. Pure.
//!
//! Requests run in the order of their tickets, so the last ticket is what memory can do without for
//! the longest time, and the first ones are needed next. (Requests of several shapes may run a batch
//! apart from that order.)
//!
//! Invariant: nothing that is waited for, or within the horizon in bytes from the head of the queue, is
//! named as what may be parked.

use std::collections::{BTreeMap, BTreeSet};

use super::Ticket;

/// The requests of a queue that may be parked.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    entries: BTreeMap<Ticket, Entry>,
    here: BTreeSet<Ticket>,
    away: BTreeSet<Ticket>,
    /// The requests that an instance waits for.
    awaited: BTreeSet<Ticket>,
    /// Bytes of all requests that there ever were.
    total: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Bytes of all requests that came before it.
    offset: u64,
    place: Place,
}

/// Where the tensors of a request are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In memory.
    Here,
    /// Between memory and disk, in somebody's hands.
    Moving,
    /// On disk.
    Away,
}

impl Whereabouts {
    /// Takes in a request that was queued last, with what parking it would free.
    pub(super) fn insert(&mut self, ticket: Ticket, bytes: u64) {
        let place = Place::Here;
        let offset = self.total;
        self.total += bytes;
        self.entries.insert(ticket, Entry { offset, place });
        self.here.insert(ticket);
    }

    /// Forgets a request, where it is known.
    pub(super) fn remove(&mut self, ticket: Ticket) {
        if self.entries.remove(&ticket).is_some() {
            self.here.remove(&ticket);
            self.away.remove(&ticket);
            self.awaited.remove(&ticket);
        }
    }

    /// Returns where the tensors of a request are.
    pub(super) fn place(&self, ticket: Ticket) -> Option<Place> {
        Some(self.entries.get(&ticket)?.place)
    }

    /// Notes where the tensors of a request are now.
    pub(super) fn set(&mut self, ticket: Ticket, place: Place) {
        let Some(entry) = self.entries.get_mut(&ticket) else {
            return;
        };
        entry.place = place;
        self.here.remove(&ticket);
        self.away.remove(&ticket);
        match place {
            Place::Here => self.here.insert(ticket),
            Place::Away => self.away.insert(ticket),
            Place::Moving => false,
        };
    }

    /// Returns how many requests are on disk.
    pub(super) fn away(&self) -> usize {
        self.away.len()
    }

    /// Returns whether any request is on disk.
    pub(super) fn any_away(&self) -> bool {
        !self.away.is_empty()
    }

    /// Returns the request in memory that runs last, of those that are not within `horizon` bytes of the
    /// head, nor waited for.
    pub(super) fn last_here(&self, horizon: u64) -> Option<Ticket> {
        let far = self.here.iter().rev().copied();
        let mut far = far.take_while(|ticket| self.bytes_before(*ticket) >= horizon);
        far.find(|ticket| !self.awaited.contains(ticket))
    }

    /// Returns the requests on disk that are waited for or within `horizon` bytes of the head, the one
    /// needed first in front.
    pub(super) fn first_away(&self, horizon: u64) -> Vec<Ticket> {
        let awaited = self.awaited.intersection(&self.away);
        let near = self.away.iter();
        let near = near.take_while(|ticket| self.bytes_before(**ticket) < horizon);
        let mut wanted: Vec<Ticket> = awaited.chain(near).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Notes that an instance waits for these.
    pub(super) fn wait_for(&mut self, needed: impl IntoIterator<Item = Ticket>) {
        self.awaited = needed.into_iter().collect();
    }

    /// Returns how many bytes are before a request. Those that left the queue from between count, until
    /// they would have been the head.
    fn bytes_before(&self, ticket: Ticket) -> u64 {
        let offset = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.offset);
        let head = self.entries.first_key_value().map(|(_, entry)| entry);
        offset(self.entries.get(&ticket)).saturating_sub(offset(head))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(bytes: &[u64]) -> Whereabouts {
        let mut whereabouts = Whereabouts::default();
        for (ticket, bytes) in (0..).zip(bytes) {
            whereabouts.insert(ticket, *bytes);
        }
        whereabouts
    }

    #[test]
    fn the_last_goes_first_and_what_is_near_stays() {
        let mut whereabouts = of(&[10, 10, 10, 10]);
        for expected in [3, 2] {
            assert_eq!(whereabouts.last_here(20), Some(expected));
            whereabouts.set(expected, Place::Away);
        }
        assert_eq!(
            whereabouts.last_here(20),
            None,
            "the rest is within 20 bytes"
        );
    }

    #[test]
    fn what_comes_near_the_head_comes_back_in_order() {
        let mut whereabouts = of(&[10, 10, 10, 10]);
        for ticket in [2, 3] {
            whereabouts.set(ticket, Place::Away);
        }
        assert!(whereabouts.first_away(20).is_empty());
        assert_eq!(whereabouts.first_away(21), [2]);
        whereabouts.remove(0);
        whereabouts.remove(1);
        assert_eq!(whereabouts.first_away(20), [2, 3]);
        whereabouts.set(2, Place::Moving);
        assert_eq!(whereabouts.first_away(20), [3]);
    }

    #[test]
    fn what_is_waited_for_comes_back_from_beyond_the_horizon_and_stays() {
        let mut whereabouts = of(&[10, 10, 10, 10]);
        for ticket in [1, 2, 3] {
            whereabouts.set(ticket, Place::Away);
        }
        whereabouts.wait_for([0, 3]);
        assert_eq!(whereabouts.first_away(10), [3]);
        whereabouts.set(3, Place::Here);
        assert_eq!(whereabouts.last_here(10), None);
        whereabouts.wait_for([]);
        assert_eq!(whereabouts.last_here(10), Some(3));
    }

    #[test]
    fn what_is_before_one_that_is_waited_for_may_go() {
        let mut whereabouts = of(&[10, 10, 10, 10]);
        whereabouts.set(0, Place::Away);
        whereabouts.wait_for([0, 3]);
        assert_eq!(whereabouts.last_here(10), Some(2));
        assert_eq!(whereabouts.last_here(21), None, "it is near");
    }

    proptest! {
        #[test]
        fn parking_and_bringing_back_agree_on_what_is_near(
            bytes in prop::collection::vec(1u64..100, 1..60),
            horizon in 1u64..2000,
            taken in 0usize..60,
        ) {
            let mut whereabouts = of(&bytes);
            let mut parked = Vec::new();
            while let Some(ticket) = whereabouts.last_here(horizon) {
                whereabouts.set(ticket, Place::Away);
                parked.push(ticket);
            }
            prop_assert!(parked.is_sorted_by(|a, b| a > b), "the one that runs last goes first");
            prop_assert!(whereabouts.first_away(horizon).is_empty(), "no flapping");
            // The executor takes some; what then is near is wanted, and nothing else.
            let taken = taken.min(bytes.len());
            (0..taken as Ticket).for_each(|ticket| whereabouts.remove(ticket));
            let wanted = whereabouts.first_away(horizon);
            let mut near = 0;
            for (ticket, bytes) in (0..).zip(&bytes).skip(taken) {
                let is_wanted = near < horizon && parked.contains(&ticket);
                prop_assert_eq!(wanted.contains(&ticket), is_wanted);
                near += bytes;
            }
            // All that is wanted comes, and then nothing is.
            wanted.iter().for_each(|ticket| whereabouts.set(*ticket, Place::Here));
            prop_assert!(whereabouts.first_away(horizon).is_empty());
        }
    }
}
