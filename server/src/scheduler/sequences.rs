//! Gives each sequence an instance of its own for as long as it lasts. Pure: the caller passes the
//! time.
//!
//! A sequence holds a slot, which is an instance, from its start to its end, or until it was idle
//! for too long. Sequences beyond the number of slots wait, with their requests, for one to come
//! free.
//!
//! Invariants: requests of one sequence come out in order of arrival and all from one slot, and a
//! slot never serves two sequences at a time; each request comes out with the start that it follows,
//! also where the request that brought the start was taken out before.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use forebay_proto::{SequenceControl, SequenceId};

use super::{Decision, Ticket};
use crate::request::Life;

/// The sequences of a model and their waiting requests.
#[derive(Debug)]
pub struct Sequences<T> {
    slots: Vec<Option<Sequence<T>>>,
    backlog: VecDeque<Sequence<T>>,
    max_idle: Duration,
    next: Ticket,
    len: usize,
}

#[derive(Debug)]
struct Sequence<T> {
    id: SequenceId,
    /// That of its latest request.
    life: Life,
    items: BTreeMap<Ticket, Item<T>>,
    /// Those of requests that were taken and are not done with.
    running: Vec<Life>,
    /// When its last request came, or was done with.
    active: Instant,
}

impl<T> Sequence<T> {
    /// Returns whether the latest request that waits is the sequence's last.
    fn is_over(&self) -> bool {
        let latest = self.items.last_key_value();
        latest.is_some_and(|(_, item)| item.end)
    }

    fn is_idle(&self) -> bool {
        self.items.is_empty() && self.running.is_empty()
    }
}

#[derive(Debug)]
struct Item<T> {
    end: bool,
    life: Life,
    value: T,
}

/// A request continues a sequence that is not there: it did not start, has ended, or was idle for
/// too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSequence<T>(
    /// The request.
    pub T,
);

impl<T> Sequences<T> {
    /// Makes `slots` free slots.
    pub fn new(slots: usize, max_idle: Duration) -> Self {
        Self {
            slots: (0..slots).map(|_| None).collect(),
            backlog: VecDeque::new(),
            max_idle,
            next: 0,
            len: 0,
        }
    }

    /// Returns how many requests wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes in a request.
    ///
    /// # Errors
    /// The request does not start its sequence, and no such sequence is open.
    pub fn push(
        &mut self,
        now: Instant,
        control: SequenceControl,
        value: T,
    ) -> Result<Ticket, UnknownSequence<T>> {
        self.expire(now);
        let ticket = self.next;
        let open = self
            .slots
            .iter_mut()
            .flatten()
            .chain(&mut self.backlog)
            .find(|sequence| sequence.id == control.id);
        let item = |life, value| Item {
            end: control.end,
            life,
            value,
        };
        match open {
            Some(sequence) if sequence.is_over() && !control.start => {
                return Err(UnknownSequence(value));
            }
            Some(sequence) => {
                if control.start {
                    sequence.life = ticket;
                }
                sequence.items.insert(ticket, item(sequence.life, value));
                sequence.active = now;
            }
            None if control.start => self.backlog.push_back(Sequence {
                id: control.id,
                life: ticket,
                items: BTreeMap::from([(ticket, item(ticket, value))]),
                running: Vec::new(),
                active: now,
            }),
            None => return Err(UnknownSequence(value)),
        }
        self.next += 1;
        self.len += 1;
        self.fill();
        Ok(ticket)
    }

    /// Takes a request out, if it still waits. A sequence without a slot whose only request goes this
    /// way is over.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let item = self
            .slots
            .iter_mut()
            .flatten()
            .chain(&mut self.backlog)
            .find_map(|sequence| sequence.items.remove(&ticket))?;
        self.len -= 1;
        self.backlog.retain(|sequence| !sequence.items.is_empty());
        Some(item.value)
    }

    /// Takes all requests out, in order of arrival.
    pub fn into_values(self) -> Vec<T> {
        let open = self.slots.into_iter().flatten().chain(self.backlog);
        let items: BTreeMap<Ticket, Item<T>> = open.flat_map(|sequence| sequence.items).collect();
        items.into_values().map(|item| item.value).collect()
    }

    /// Decides what the instance of `slot` should do now. A request of another life than the last
    /// one finds the state forgotten.
    pub fn poll(&mut self, slot: usize, now: Instant) -> Decision<(Life, T)> {
        self.expire(now);
        if let Some(sequence) = self.slots.get_mut(slot).and_then(Option::as_mut)
            && let Some((_, item)) = sequence.items.pop_first()
        {
            sequence.active = now;
            sequence.running.push(item.life);
            self.len -= 1;
            if item.end {
                // Requests after the end belong to the sequence's next life.
                let mut rest = self.slots[slot].take();
                if let Some(rest) = &mut rest {
                    rest.running.clear();
                }
                self.backlog
                    .extend(rest.filter(|rest| !rest.items.is_empty()));
                self.fill();
            }
            return Decision::Ready(vec![(item.life, item.value)]);
        }
        let idle = self
            .slots
            .iter()
            .flatten()
            .filter(|sequence| sequence.is_idle());
        match idle.map(|sequence| sequence.active + self.max_idle).min() {
            Some(due) if !self.backlog.is_empty() => Decision::Until(due),
            _ => Decision::Idle,
        }
    }

    /// Returns the life of an open sequence's latest request.
    pub fn life(&self, id: &SequenceId) -> Option<Life> {
        let mut open = self.slots.iter().flatten().chain(&self.backlog);
        let found = open.find(|sequence| sequence.id == *id);
        found.map(|sequence| sequence.life)
    }

    /// Notes that a request that was taken is done with: its sequence may be idle from here on. One of
    /// the same id that began after its end is another. Returns whether one waits for a slot.
    pub fn settle(&mut self, id: &SequenceId, life: Life, now: Instant) -> bool {
        let mut open = self.slots.iter_mut().flatten();
        if let Some(sequence) = open.find(|sequence| sequence.id == *id)
            && let Some(at) = sequence.running.iter().position(|one| *one == life)
        {
            sequence.running.swap_remove(at);
            sequence.active = now;
        }
        !self.backlog.is_empty()
    }

    /// Ends all sequences of which nothing waits.
    pub fn end_idle(&mut self) {
        for slot in &mut self.slots {
            if slot
                .as_ref()
                .is_some_and(|sequence| sequence.items.is_empty())
            {
                *slot = None;
            }
        }
        self.fill();
    }

    /// Ends sequences that were idle for too long.
    fn expire(&mut self, now: Instant) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|sequence| {
                sequence.is_idle() && now >= sequence.active + self.max_idle
            }) {
                *slot = None;
            }
        }
        self.fill();
    }

    /// Gives free slots to the sequences that wait longest.
    fn fill(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.is_none()) {
            *slot = self.backlog.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "sequences_tests.rs"]
mod tests;
