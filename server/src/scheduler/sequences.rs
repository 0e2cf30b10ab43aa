//! Gives each sequence an instance of its own for as long as it lasts. Pure: the caller passes the
//! time.
//!
//! A sequence holds a slot, which is an instance, from its start to its end, or until it was idle
//! for too long. Sequences beyond the number of slots wait, with their requests, for one to come
//! free.
//!
//! Invariants: requests of one sequence come out in order of arrival and all from one slot, and a
//! slot never serves two sequences at a time; each request comes out with the start that it follows,
//! also where the request that brought the start was taken out before. Nothing takes time in the number
//! of sequences that wait for a slot.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use forebay_proto::{SequenceControl, SequenceId};

use super::{Decision, Ticket};
use crate::request::Life;

/// The sequences of a model and their waiting requests.
#[derive(Debug)]
pub struct Sequences<T> {
    slots: Vec<Option<Sequence<T>>>,
    /// Those that wait for a slot, in line.
    backlog: BTreeMap<u64, Sequence<T>>,
    /// The end of that line.
    last: u64,
    places: HashMap<SequenceId, Place>,
    /// The sequences of the requests that wait.
    tickets: HashMap<Ticket, SequenceId>,
    max_idle: Duration,
    next: Ticket,
}

/// Where a sequence is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Slot(usize),
    Backlog(u64),
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
            backlog: BTreeMap::new(),
            last: 0,
            places: HashMap::new(),
            tickets: HashMap::new(),
            max_idle,
            next: 0,
        }
    }

    /// Returns how many requests wait.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Returns whether none waits.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
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
        let id = control.id.clone();
        let item = |life, value| Item {
            end: control.end,
            life,
            value,
        };
        match self.get_mut(&id) {
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
            None if control.start => self.queue(Sequence {
                id: control.id,
                life: ticket,
                items: BTreeMap::from([(ticket, item(ticket, value))]),
                running: Vec::new(),
                active: now,
            }),
            None => return Err(UnknownSequence(value)),
        }
        self.tickets.insert(ticket, id);
        self.next += 1;
        self.fill();
        Ok(ticket)
    }

    /// Takes a request out, if it still waits. A sequence without a slot whose only request goes this
    /// way is over.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let id = self.tickets.remove(&ticket)?;
        let sequence = self.get_mut(&id)?;
        let item = sequence.items.remove(&ticket)?;
        let is_empty = sequence.items.is_empty();
        if let Some(Place::Backlog(at)) = self.places.get(&id).copied()
            && is_empty
        {
            self.backlog.remove(&at);
            self.places.remove(&id);
        }
        Some(item.value)
    }

    /// Takes all requests out, in order of arrival.
    pub fn into_values(self) -> Vec<T> {
        let open = self.slots.into_iter().flatten();
        let open = open.chain(self.backlog.into_values());
        let items: BTreeMap<Ticket, Item<T>> = open.flat_map(|sequence| sequence.items).collect();
        items.into_values().map(|item| item.value).collect()
    }

    /// Decides what the instance of `slot` should do now. A request of another life than the last
    /// one finds the state forgotten.
    pub fn poll(&mut self, slot: usize, now: Instant) -> Decision<(Life, T)> {
        self.expire(now);
        if let Some(sequence) = self.slots.get_mut(slot).and_then(Option::as_mut)
            && let Some((ticket, item)) = sequence.items.pop_first()
        {
            sequence.active = now;
            sequence.running.push(item.life);
            self.tickets.remove(&ticket);
            if item.end {
                // Requests after the end belong to the sequence's next life.
                if let Some(mut rest) = self.vacate(slot)
                    && !rest.items.is_empty()
                {
                    rest.running.clear();
                    self.queue(rest);
                }
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
        let sequence = match self.places.get(id)? {
            Place::Slot(at) => self.slots[*at].as_ref(),
            Place::Backlog(at) => self.backlog.get(at),
        };
        Some(sequence?.life)
    }

    /// Notes that a request that was taken is done with: its sequence may be idle from here on. One of
    /// the same id that began after its end is another. Returns whether one waits for a slot.
    pub fn settle(&mut self, id: &SequenceId, life: Life, now: Instant) -> bool {
        if let Some(sequence) = self.get_mut(id)
            && let Some(at) = sequence.running.iter().position(|one| *one == life)
        {
            sequence.running.swap_remove(at);
            sequence.active = now;
        }
        !self.backlog.is_empty()
    }

    /// Ends all sequences of which nothing waits.
    pub fn end_idle(&mut self) {
        self.end(|sequence| sequence.items.is_empty());
    }

    /// Ends sequences that were idle for too long.
    fn expire(&mut self, now: Instant) {
        let max_idle = self.max_idle;
        self.end(|sequence| sequence.is_idle() && now >= sequence.active + max_idle);
    }

    /// Ends those that have a slot and `are_over`, and gives the slots away.
    fn end(&mut self, are_over: impl Fn(&Sequence<T>) -> bool) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(&are_over) {
                self.vacate(slot);
            }
        }
        self.fill();
    }

    fn get_mut(&mut self, id: &SequenceId) -> Option<&mut Sequence<T>> {
        match self.places.get(id)? {
            Place::Slot(at) => self.slots[*at].as_mut(),
            Place::Backlog(at) => self.backlog.get_mut(at),
        }
    }

    /// Has a sequence wait for a slot behind all others.
    fn queue(&mut self, sequence: Sequence<T>) {
        let place = Place::Backlog(self.last);
        self.places.insert(sequence.id.clone(), place);
        self.backlog.insert(self.last, sequence);
        self.last += 1;
    }

    fn vacate(&mut self, slot: usize) -> Option<Sequence<T>> {
        let sequence = self.slots[slot].take()?;
        self.places.remove(&sequence.id);
        Some(sequence)
    }

    /// Gives free slots to the sequences that wait longest.
    fn fill(&mut self) {
        let slots = self.slots.iter_mut().enumerate();
        for (at, slot) in slots.filter(|(_, slot)| slot.is_none()) {
            let Some((_, sequence)) = self.backlog.pop_first() else {
                return;
            };
            self.places.insert(sequence.id.clone(), Place::Slot(at));
            *slot = Some(sequence);
        }
    }
}

#[cfg(test)]
#[path = "sequences_tests.rs"]
mod tests;
