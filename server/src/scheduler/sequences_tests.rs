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
