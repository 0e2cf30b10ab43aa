use std::collections::VecDeque;

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

#[test]
fn many_sequences_take_no_longer_each_than_few() {
    const SEQUENCES: u64 = 16_384;
    let (began, now) = (Instant::now(), Instant::now());
    let mut sequences = Sequences::new(2, IDLE);
    for id in 0..SEQUENCES {
        assert_eq!(sequences.push(now, control(id, true, false), id), Ok(id));
        assert_eq!(sequences.life(&SequenceId::Number(id)), Some(id));
    }
    for ticket in (0..SEQUENCES).rev() {
        assert_eq!(sequences.remove(ticket), Some(ticket));
    }
    assert!(sequences.is_empty() && sequences.backlog.is_empty());
    assert_eq!(sequences.places.len(), 2, "those with a slot keep it");
    // It takes well under a second; looking at each sequence each time takes far longer.
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// The sequences of a model, in lists that are searched.
struct Lists {
    slots: Vec<Option<Sequence<Ticket>>>,
    backlog: VecDeque<Sequence<Ticket>>,
    next: Ticket,
}

impl Lists {
    fn open(&mut self) -> impl Iterator<Item = &mut Sequence<Ticket>> {
        self.slots.iter_mut().flatten().chain(&mut self.backlog)
    }

    fn tidy(&mut self, now: Instant) {
        self.backlog.retain(|sequence| !sequence.items.is_empty());
        for slot in &mut self.slots {
            slot.take_if(|one| one.is_idle() && now >= one.active + IDLE);
            if slot.is_none() {
                *slot = self.backlog.pop_front();
            }
        }
    }

    fn push(
        &mut self,
        now: Instant,
        control: SequenceControl,
    ) -> Result<Ticket, UnknownSequence<Ticket>> {
        self.tidy(now);
        let ticket = self.next;
        let place = self.open().position(|one| one.id == control.id);
        let is_over = self.open().any(|one| one.id == control.id && one.is_over());
        if !control.start && (place.is_none() || is_over) {
            return Err(UnknownSequence(ticket));
        }
        if place.is_none() {
            self.backlog.push_back(Sequence {
                id: control.id.clone(),
                life: ticket,
                items: BTreeMap::new(),
                running: Vec::new(),
                active: now,
            });
        }
        let found = self.open().find(|one| one.id == control.id);
        let sequence = found.unwrap();
        if control.start {
            sequence.life = ticket;
        }
        let (end, life, value) = (control.end, sequence.life, ticket);
        sequence.items.insert(ticket, Item { end, life, value });
        sequence.active = now;
        self.next += 1;
        self.tidy(now);
        Ok(ticket)
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Ticket> {
        let item = self.open().find_map(|one| one.items.remove(&ticket));
        self.backlog.retain(|sequence| !sequence.items.is_empty());
        Some(item?.value)
    }

    fn poll(&mut self, slot: usize, now: Instant) -> Option<(Life, Ticket)> {
        self.tidy(now);
        let sequence = self.slots[slot].as_mut()?;
        let (ticket, item) = sequence.items.pop_first()?;
        sequence.active = now;
        sequence.running.push(item.life);
        if item.end {
            sequence.running.clear();
            self.backlog.extend(self.slots[slot].take());
            self.tidy(now);
        }
        Some((item.life, ticket))
    }

    fn settle(&mut self, id: &SequenceId, life: Life, now: Instant) {
        if let Some(sequence) = self.slots.iter_mut().flatten().find(|one| one.id == *id)
            && let Some(at) = sequence.running.iter().position(|one| *one == life)
        {
            sequence.running.swap_remove(at);
            sequence.active = now;
        }
    }
}

proptest! {
    #[test]
    fn they_do_as_lists_that_are_searched_do(
        steps in proptest::collection::vec((0u8..10, 0u64..30, 0u64..6, 0usize..2), 0..150),
    ) {
        let mut now = Instant::now();
        let mut sequences = Sequences::new(2, IDLE);
        let slots = vec![None, None];
        let mut lists = Lists { slots, backlog: VecDeque::new(), next: 0 };
        for (kind, number, id, slot) in steps {
            match kind {
                0..4 => {
                    let control = control(id, number % 3 != 0, number % 5 == 0);
                    let value = lists.next;
                    let expected = lists.push(now, control.clone());
                    prop_assert_eq!(sequences.push(now, control, value), expected);
                }
                4 | 5 => prop_assert_eq!(sequences.remove(number), lists.remove(number)),
                6 | 7 => {
                    let expected = lists.poll(slot, now);
                    prop_assert_eq!(next(&mut sequences, slot, now), expected);
                }
                8 => {
                    let id = SequenceId::Number(id);
                    let is_due = sequences.settle(&id, number, now);
                    lists.settle(&id, number, now);
                    prop_assert_eq!(is_due, !lists.backlog.is_empty());
                }
                _ => now += IDLE / 2,
            }
            let waiting: usize = lists.open().map(|one| one.items.len()).sum();
            prop_assert_eq!(sequences.len(), waiting);
            for id in 0..6 {
                let id = SequenceId::Number(id);
                let life = lists.open().find(|one| one.id == id).map(|one| one.life);
                prop_assert_eq!(sequences.life(&id), life);
            }
        }
    }
}
