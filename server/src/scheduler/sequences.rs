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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn control(id: u64, start: bool, end: bool) -> SequenceControl {
        SequenceControl {
            id: SequenceId::Number(id),
            start,
            end,
        }
    }

    const IDLE: Duration = Duration::from_secs(1);

    fn next<T>(sequences: &mut Sequences<T>, slot: usize, now: Instant) -> Option<(Life, T)> {
        match sequences.poll(slot, now) {
            Decision::Ready(mut items) => items.pop(),
            Decision::Until(_) | Decision::Idle | Decision::Absent { .. } => None,
        }
    }

    #[test]
    fn a_sequence_must_start() {
        let now = Instant::now();
        let mut sequences = Sequences::new(1, IDLE);
        assert_eq!(
            sequences.push(now, control(1, false, false), 'a'),
            Err(UnknownSequence('a'))
        );
        assert!(sequences.push(now, control(1, true, true), 'b').is_ok());
        assert_eq!(
            sequences.push(now, control(1, false, false), 'c'),
            Err(UnknownSequence('c'))
        );
        assert_eq!(next(&mut sequences, 0, now), Some((0, 'b')));
        assert_eq!(
            sequences.push(now, control(1, false, false), 'd'),
            Err(UnknownSequence('d'))
        );
    }

    #[test]
    fn what_follows_a_start_that_was_taken_out_is_still_of_its_life() {
        let now = Instant::now();
        let mut sequences = Sequences::new(1, IDLE);
        let first = sequences.push(now, control(1, true, false), 'a').unwrap();
        assert_eq!(next(&mut sequences, 0, now), Some((first, 'a')));
        let second = sequences.push(now, control(1, true, false), 'b').unwrap();
        sequences.push(now, control(1, false, false), 'c').unwrap();
        assert_eq!(sequences.remove(second), Some('b'));
        assert_eq!(next(&mut sequences, 0, now), Some((second, 'c')));
    }

    #[test]
    fn a_sequence_without_a_slot_waits_for_one() {
        let now = Instant::now();
        let mut sequences = Sequences::new(1, IDLE);
        sequences.push(now, control(1, true, false), 'a').unwrap();
        sequences.push(now, control(2, true, true), 'b').unwrap();
        assert_eq!(next(&mut sequences, 0, now), Some((0, 'a')));
        assert_eq!(sequences.poll(0, now), Decision::Idle);
        assert!(sequences.settle(&SequenceId::Number(1), 0, now));
        assert_eq!(sequences.poll(0, now), Decision::Until(now + IDLE));
        sequences.push(now, control(1, false, true), 'c').unwrap();
        assert_eq!(next(&mut sequences, 0, now), Some((0, 'c')));
        assert_eq!(next(&mut sequences, 0, now), Some((1, 'b')));
    }

    #[test]
    fn the_end_of_one_life_is_not_that_of_the_next() {
        let id = SequenceId::Number(1);
        let now = Instant::now();
        let mut sequences = Sequences::new(1, IDLE);
        sequences.push(now, control(1, true, true), 'a').unwrap();
        let first = sequences.life(&id).unwrap();
        assert_eq!(next(&mut sequences, 0, now), Some((first, 'a')));
        sequences.push(now, control(1, true, false), 'b').unwrap();
        let second = sequences.life(&id).unwrap();
        assert_eq!(next(&mut sequences, 0, now), Some((second, 'b')));
        sequences.settle(&id, first, now);
        // It runs for longer than one may be idle.
        let later = now + 2 * IDLE;
        sequences
            .push(later, control(1, false, false), 'c')
            .unwrap();
        // A restart in between ends with its own request too.
        sequences.push(later, control(1, true, false), 'd').unwrap();
        let third = sequences.life(&id).unwrap();
        assert_eq!(next(&mut sequences, 0, later), Some((second, 'c')));
        assert_eq!(next(&mut sequences, 0, later), Some((third, 'd')));
        for life in [second, second, third] {
            sequences.settle(&id, life, later);
        }
        let idle = later + IDLE;
        assert!(sequences.push(idle, control(1, false, false), 'e').is_err());
    }

    #[test]
    fn an_idle_sequence_gives_its_slot_away() {
        let now = Instant::now();
        let mut sequences = Sequences::new(1, IDLE);
        sequences.push(now, control(1, true, false), 'a').unwrap();
        assert_eq!(next(&mut sequences, 0, now), Some((0, 'a')));
        // While a request of it runs, a sequence is not idle.
        let done = now + 2 * IDLE;
        assert!(sequences.push(done, control(1, false, false), 'x').is_ok());
        assert_eq!(next(&mut sequences, 0, done), Some((0, 'x')));
        sequences.settle(&SequenceId::Number(1), 0, done);
        sequences.settle(&SequenceId::Number(1), 0, done);
        let later = done + IDLE;
        assert_eq!(
            sequences.push(later, control(1, false, false), 'b'),
            Err(UnknownSequence('b'))
        );
        sequences.push(later, control(2, true, false), 'c').unwrap();
        assert_eq!(next(&mut sequences, 0, later), Some((2, 'c')));
    }

    #[test]
    fn at_the_end_no_sequence_holds_a_slot_for_nothing() {
        let now = Instant::now();
        let mut sequences = Sequences::new(1, IDLE);
        sequences.push(now, control(1, true, false), 'a').unwrap();
        sequences.push(now, control(2, true, false), 'b').unwrap();
        assert_eq!(next(&mut sequences, 0, now), Some((0, 'a')));
        sequences.end_idle();
        assert_eq!(next(&mut sequences, 0, now), Some((1, 'b')));
    }

    proptest! {
        #[test]
        fn sequences_stay_in_order_and_keep_their_slot(
            steps in proptest::collection::vec((0u64..5, any::<bool>(), 0u8..4, 0usize..3), 0..120),
        ) {
            let now = Instant::now();
            let mut sequences = Sequences::new(3, IDLE);
            let mut expected: BTreeMap<u64, VecDeque<(u64, u32)>> = BTreeMap::new();
            let mut open: BTreeMap<u64, usize> = BTreeMap::new();
            for (number, (id, poll, kind, slot)) in (0u32..).zip(steps) {
                if poll {
                    if let Some((_, value)) = next(&mut sequences, slot, now) {
                        let (id, _) = value;
                        let front = expected.get_mut(&id).unwrap().pop_front().unwrap();
                        prop_assert_eq!(value, front);
                        let held = *open.entry(id).or_insert(slot);
                        if sequences.slots[slot].as_ref().is_none_or(|s| s.id != SequenceId::Number(id)) {
                            open.remove(&id);
                        } else {
                            prop_assert_eq!(held, slot);
                        }
                    }
                } else if sequences.push(now, control(id, kind != 1, kind == 2), (id, number)).is_ok() {
                    expected.entry(id).or_default().push_back((id, number));
                }
                prop_assert_eq!(sequences.len(), expected.values().map(VecDeque::len).sum::<usize>());
            }
        }
    }
}
