use proptest::prelude::*;

use super::*;

fn policy(max_rows: usize, preferred: &[usize], delay_ms: u64) -> Policy {
    Policy {
        max_rows,
        preferred: preferred.to_vec(),
        max_delay: Duration::from_millis(delay_ms),
        join: true,
    }
}

fn filled(policy: Policy, rows: &[usize], now: Instant) -> Batcher<usize> {
    let mut batcher = Batcher::new(policy);
    for (index, &rows) in rows.iter().enumerate() {
        batcher.push(now, rows, vec![], index);
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
fn shapes_are_never_mixed_and_the_oldest_goes_first() {
    let now = Instant::now();
    let mut batcher = Batcher::new(policy(8, &[], 0));
    for (index, shape) in [3, 4, 3, 4].into_iter().enumerate() {
        batcher.push(now, 1, vec![shape], index);
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
        batcher.push(now, 1, vec![shape], index);
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
                    let ticket = batcher.push(now, rows, vec![shape], value);
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
        batcher.push(now, 1, vec![8], value);
    }
    let without = |absent: i32| move |value: &i32| *value != absent;
    let absent = Decision::Absent {
        needed: vec![0, 1, 2],
        until: None,
    };
    assert_eq!(batcher.poll(now, false, without(1)), absent);
    batcher.push(now, 1, vec![9], 3);
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
