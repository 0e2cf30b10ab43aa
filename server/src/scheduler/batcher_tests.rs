use proptest::prelude::*;

use super::*;

fn policy(max_rows: usize, preferred: &[usize], delay_ms: u64) -> Policy {
    Policy {
        max_rows,
        preferred: preferred.to_vec(),
        max_delay: Duration::from_millis(delay_ms),
        max_bytes: u64::MAX,
        join: true,
    }
}

fn of_rows(rows: usize) -> Size {
    Size { rows, bytes: 0 }
}

fn filled(policy: Policy, rows: &[usize], now: Instant) -> Batcher<usize> {
    let mut batcher = Batcher::new(policy);
    for (index, &rows) in rows.iter().enumerate() {
        batcher.push(now, of_rows(rows), vec![], index);
    }
    batcher
}

#[test]
fn without_a_delay_what_is_queued_goes() {
    let now = Instant::now();
    let mut batcher = filled(policy(4, &[], 0), &[1, 2, 2], now);
    assert_eq!(
        batcher.poll(now, false, |_| true),
        Decision::Ready(vec![0, 1])
    );
    assert_eq!(batcher.poll(now, false, |_| true), Decision::Ready(vec![2]));
    assert_eq!(batcher.poll(now, false, |_| true), Decision::Idle);
}

#[test]
fn a_partial_batch_waits_for_the_delay_and_no_longer() {
    let now = Instant::now();
    let mut batcher = filled(policy(4, &[], 5), &[1, 1], now);
    let due = now + Duration::from_millis(5);
    assert_eq!(batcher.poll(now, false, |_| true), Decision::Until(due));
    assert_eq!(
        batcher.poll(due, false, |_| true),
        Decision::Ready(vec![0, 1])
    );
    let mut batcher = filled(policy(4, &[], 5), &[1, 1], now);
    assert_eq!(
        batcher.poll(now, true, |_| true),
        Decision::Ready(vec![0, 1])
    );
}

#[test]
fn the_largest_preferred_size_goes_at_once() {
    let now = Instant::now();
    let mut batcher = filled(policy(8, &[2, 4], 5), &[1; 5], now);
    assert_eq!(
        batcher.poll(now, false, |_| true),
        Decision::Ready(vec![0, 1, 2, 3])
    );
    assert!(matches!(
        batcher.poll(now, false, |_| true),
        Decision::Until(_)
    ));
}

#[test]
fn a_preferred_size_goes_before_the_largest_until_the_delay_is_over() {
    let now = Instant::now();
    let first = |delay_ms, later_ms| {
        let mut batcher = filled(policy(8, &[2, 4], delay_ms), &[1; 9], now);
        let later = now + Duration::from_millis(later_ms);
        match batcher.poll(later, false, |_| true) {
            Decision::Ready(batch) => batch.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(first(5, 0), 4);
    assert_eq!(first(5, 5), 8);
    assert_eq!((first(0, 0), first(0, 5)), (4, 4));
}

#[test]
fn many_shapes_that_cannot_go_early_do_not_hide_a_full_batch() {
    let now = Instant::now();
    let mut batcher = Batcher::new(policy(32, &[8], 100));
    let size = |rows| Size { rows, bytes: 0 };
    for shape in 0..200 {
        // 3, 6 and 9 rows: never 8.
        (0..3).for_each(|_| {
            batcher.push(now, size(3), vec![shape], 0);
        });
    }
    let full = batcher.push(now, size(32), vec![200], 1);
    assert_eq!(batcher.poll(now, false, |_| true), Decision::Ready(vec![1]));
    assert_eq!(batcher.get_mut(full), None);
}

#[test]
fn shapes_are_never_mixed_and_the_oldest_goes_first() {
    let now = Instant::now();
    let mut batcher = Batcher::new(policy(8, &[], 0));
    for (index, shape) in [3, 4, 3, 4].into_iter().enumerate() {
        batcher.push(now, of_rows(1), vec![shape], index);
    }
    assert_eq!(
        batcher.poll(now, false, |_| true),
        Decision::Ready(vec![0, 2])
    );
    assert_eq!(
        batcher.poll(now, false, |_| true),
        Decision::Ready(vec![1, 3])
    );
}

#[test]
fn a_full_batch_does_not_wait_for_the_company_of_another_shape() {
    let now = Instant::now();
    let mut batcher = Batcher::new(policy(2, &[], 100));
    for (index, shape) in [3, 4, 4].into_iter().enumerate() {
        batcher.push(now, of_rows(1), vec![shape], index);
    }
    assert_eq!(
        batcher.poll(now, false, |_| true),
        Decision::Ready(vec![1, 2])
    );
    let due = now + Duration::from_millis(100);
    assert_eq!(batcher.poll(now, false, |_| true), Decision::Until(due));
}

#[derive(Debug, Clone)]
enum Step {
    Push { rows: usize, shape: i64 },
    Remove(u64),
    Poll,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..6, 0i64..3).prop_map(|(rows, shape)| Step::Push { rows, shape }),
        1 => (0u64..40).prop_map(Step::Remove),
        3 => Just(Step::Poll),
        2 => (0u64..4).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_reordered_or_overfilled(
        steps in steps(), max in 1usize..8, delay in 0u64..6, preferred in proptest::collection::vec(1usize..8, 0..3),
    ) {
        let mut now = Instant::now();
        let mut batcher = Batcher::new(policy(max, &preferred, delay));
        let mut waiting = BTreeMap::new();
        for step in steps {
            match step {
                Step::Push { rows, shape } => {
                    let value = (rows, shape, now);
                    let ticket = batcher.push(now, of_rows(rows), vec![shape], value);
                    prop_assert!(waiting.insert(ticket, value).is_none());
                }
                Step::Remove(ticket) => prop_assert_eq!(batcher.remove(ticket), waiting.remove(&ticket)),
                Step::Pass(ms) => now += Duration::from_millis(ms),
                Step::Poll => match batcher.poll(now, false, |_| true) {
                    Decision::Ready(batch) => {
                        let shape = batch[0].1;
                        // Another shape goes first only while the oldest request may still wait.
                        let (_, &(_, oldest, arrived)) = waiting.first_key_value().unwrap();
                        prop_assert!(shape == oldest || now < arrived + Duration::from_millis(delay));
                        let expected: Vec<_> = waiting.iter()
                            .filter(|(_, (_, other, _))| *other == shape)
                            .take(batch.len()).map(|(&ticket, &value)| (ticket, value)).collect();
                        let values: Vec<_> = expected.iter().map(|(_, value)| *value).collect();
                        prop_assert_eq!(&values, &batch);
                        let rows: usize = batch.iter().map(|(rows, ..)| rows).sum();
                        prop_assert!(rows <= max || batch.len() == 1);
                        for (ticket, _) in expected { waiting.remove(&ticket); }
                    }
                    Decision::Absent { .. } => prop_assert!(false, "all are here"),
                    Decision::Until(due) => {
                        let oldest = waiting.values().map(|(.., arrived)| *arrived).min().unwrap();
                        prop_assert!(due > now && due <= oldest + Duration::from_millis(delay));
                    }
                    Decision::Idle => prop_assert!(waiting.is_empty()),
                },
            }
            prop_assert_eq!(batcher.len(), waiting.len());
        }
    }
}

#[test]
fn a_batch_waits_for_those_that_are_not_here_and_another_shape_goes_on() {
    let now = Instant::now();
    let mut batcher = Batcher::new(policy(4, &[], 0));
    for value in 0..3 {
        batcher.push(now, of_rows(1), vec![8], value);
    }
    let without = |absent: i32| move |value: &i32| *value != absent;
    let absent = Decision::Absent {
        needed: vec![0, 1, 2],
        until: None,
    };
    assert_eq!(batcher.poll(now, false, without(1)), absent);
    batcher.push(now, of_rows(1), vec![9], 3);
    assert_eq!(
        batcher.poll(now, false, without(1)),
        Decision::Ready(vec![3])
    );
    assert_eq!(batcher.take_overtaken(), [0, 1, 2]);
    assert_eq!(
        batcher.poll(now, false, without(7)),
        Decision::Ready(vec![0, 1, 2])
    );
    assert!(batcher.take_overtaken().is_empty());
}

/// Requests of these bytes, of one row and shape, in batches of eight that wait for long and have 100
/// bytes brought back.
fn of_bytes(bytes: &[u64], now: Instant) -> Batcher<usize> {
    let mut batcher = Batcher::new(policy(8, &[], 5));
    batcher.limit(100);
    for (index, &bytes) in bytes.iter().enumerate() {
        batcher.push(now, Size { rows: 1, bytes }, vec![], index);
    }
    batcher
}

#[test]
fn a_batch_stops_before_what_is_too_much_to_bring_back_and_does_not_grow_meanwhile() {
    let now = Instant::now();
    let mut batcher = of_bytes(&[40; 5], now);
    let due = now + Duration::from_millis(5);
    // It is as full as it gets, and waits for no company.
    for arrived in 0..2 {
        let decision = batcher.poll(now, false, |request| *request < arrived);
        let absent = Decision::Absent {
            needed: vec![0, 1],
            until: None,
        };
        assert_eq!(decision, absent);
    }
    let decision = batcher.poll(now, false, |request| *request < 2);
    assert_eq!(decision, Decision::Ready(vec![0, 1]));
    assert_eq!(batcher.poll(now, false, |_| true), Decision::Until(due));
}

#[test]
fn what_is_in_memory_is_not_cut_and_one_request_always_goes() {
    let now = Instant::now();
    let due = now + Duration::from_millis(5);
    let mut batcher = of_bytes(&[40, 90, 90, 40], now);
    let decision = batcher.poll(due, false, |request| *request != 3);
    assert_eq!(decision, Decision::Ready(vec![0, 1, 2]));
    let mut batcher = of_bytes(&[40, 90, 90, 40], now);
    let decision = batcher.poll(due, false, |_| true);
    assert_eq!(decision, Decision::Ready(vec![0, 1, 2, 3]));
    let mut batcher = of_bytes(&[101, 1], now);
    let absent = Decision::Absent {
        needed: vec![0],
        until: None,
    };
    assert_eq!(batcher.poll(now, false, |_| false), absent);
}

#[test]
fn who_looked_at_the_clock_before_does_not_go_before() {
    let now = Instant::now();
    let later = now + Duration::from_millis(1);
    let mut batcher = Batcher::new(policy(8, &[], 5));
    batcher.push(later, of_rows(1), vec![1], 0);
    batcher.push(now, of_rows(1), vec![2], 1);
    let due = later + Duration::from_millis(5);
    assert_eq!(batcher.poll(later, false, |_| true), Decision::Until(due));
    for value in 0..2 {
        assert_eq!(
            batcher.poll(due, false, |_| true),
            Decision::Ready(vec![value])
        );
    }
}

#[test]
fn many_shapes_take_no_longer_each_than_few() {
    const SHAPES: i64 = 16_384;
    let (began, now) = (Instant::now(), Instant::now());
    let mut batcher = Batcher::new(policy(8, &[], 5));
    let due = now + Duration::from_millis(5);
    for shape in 0..SHAPES {
        batcher.push(now, of_rows(1), vec![shape], shape);
        assert_eq!(batcher.poll(now, false, |_| true), Decision::Until(due));
    }
    // Nothing is here.
    for _ in 0..1000 {
        let decision = batcher.poll(due, false, |_| false);
        assert!(matches!(decision, Decision::Absent { needed, .. } if needed == [0]));
    }
    for shape in (0..SHAPES).rev() {
        let ticket = Ticket::try_from(shape).unwrap();
        assert_eq!(batcher.get_mut(ticket).copied(), Some(shape));
        assert_eq!(batcher.remove(ticket), Some(shape));
    }
    assert!(batcher.is_empty() && batcher.groups.is_empty() && batcher.order.is_empty());
    assert!(batcher.shapes.is_empty() && batcher.early.is_empty());
    // It takes well under a second; looking at each shape each time takes minutes.
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// The requests that wait, with their shapes and when they arrived.
type Waiting = BTreeMap<Ticket, (Size, i64, Instant)>;

/// Returns what a look at every group decides, and what of a batch is overtaken.
fn decide(
    policy: &Policy,
    waiting: &Waiting,
    now: Instant,
    hurry: bool,
    here: impl Fn(&Ticket) -> bool,
) -> (Decision<Ticket>, Vec<Ticket>) {
    let mut groups: BTreeMap<i64, Group<Ticket>> = BTreeMap::new();
    for (&value, &(size, shape, arrived)) in waiting {
        let group = groups.entry(shape).or_insert_with(|| Group {
            shape: vec![shape],
            items: BTreeMap::new(),
            size: Size::default(),
            placed: None,
        });
        let item = Item {
            size,
            arrived,
            value,
        };
        group.items.insert(value, item);
    }
    let (mut ready, mut absent, mut due) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups.values() {
        let first = |count| group.items.keys().take(count).copied().collect::<Vec<_>>();
        match policy.choose(group, now, hurry, &here) {
            Ok(count) if group.first(count).all(&here) => ready.push(first(count)),
            Ok(count) => absent.push(first(count)),
            Err(until) => due.push(until),
        }
    }
    // The oldest request is the first of its batch.
    let (ready, absent) = (ready.into_iter().min(), absent.into_iter().min());
    let until = due.into_iter().min();
    match (ready, absent) {
        (Some(batch), older) => {
            let older = older.filter(|older| *older < batch);
            (Decision::Ready(batch), older.unwrap_or_default())
        }
        (None, Some(needed)) => (Decision::Absent { needed, until }, Vec::new()),
        (None, None) => (until.map_or(Decision::Idle, Decision::Until), Vec::new()),
    }
}

proptest! {
    #[test]
    fn it_decides_as_a_look_at_every_shape_does(
        steps in proptest::collection::vec((0u8..10, 0u64..40, 0i64..5), 0..120),
        max in 1usize..8, delay in 0u64..6, max_bytes in 0u64..60,
        preferred in proptest::collection::vec(1usize..8, 0..3),
    ) {
        let mut now = Instant::now();
        let policy = Policy { max_bytes, ..policy(max, &preferred, delay) };
        let mut batcher = Batcher::new(policy.clone());
        let (mut waiting, mut away) = (Waiting::new(), BTreeSet::new());
        for (kind, number, shape) in steps {
            match kind {
                0..4 => {
                    let rows = usize::try_from(number % 5).unwrap() + 1;
                    let size = Size { rows, bytes: number };
                    let next = batcher.next_ticket();
                    let ticket = batcher.push(now, size, vec![shape], next);
                    prop_assert_eq!(ticket, next);
                    waiting.insert(ticket, (size, shape, now));
                }
                4 => {
                    let was = waiting.remove(&number).map(|_| number);
                    prop_assert_eq!(batcher.remove(number), was);
                }
                5 => { away.insert(number); }
                6 => { away.remove(&number); }
                7 => now += Duration::from_millis(number % 4),
                _ => {
                    let (hurry, here) = (number % 8 == 0, |ticket: &Ticket| !away.contains(ticket));
                    let (decision, overtaken) = decide(&policy, &waiting, now, hurry, here);
                    prop_assert_eq!(batcher.poll(now, hurry, here), decision);
                    prop_assert_eq!(batcher.take_overtaken(), overtaken);
                    if let Decision::Ready(batch) = decide(&policy, &waiting, now, hurry, here).0 {
                        waiting.retain(|ticket, _| !batch.contains(ticket));
                    }
                }
            }
            prop_assert_eq!(batcher.len(), waiting.len());
        }
    }
}
