use std::time::Duration;

use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_dropped_permit_lets_the_first_in_line_go_on() {
    let budget = Budget::new("test", 10);
    let first = budget.reserve(8).await.unwrap();
    let second = budget.reserve(6);
    let third = budget.reserve(6);
    assert_eq!((budget.used(), budget.waiting()), (8, 2));
    drop(first);
    let second = timeout(LONG, second).await.unwrap().unwrap();
    assert_eq!((second.bytes(), budget.used(), budget.waiting()), (6, 6, 1));
    drop(second);
    assert_eq!(timeout(LONG, third).await.unwrap().unwrap().bytes(), 6);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_cancelled_waiter_holds_nobody_up() {
    let budget = Budget::new("test", 10);
    let _held = budget.reserve(5).await.unwrap();
    let too_big_for_now = budget.reserve(6);
    let behind = budget.reserve(5);
    drop(too_big_for_now);
    assert_eq!(timeout(LONG, behind).await.unwrap().unwrap().bytes(), 5);
}

#[tokio::test]
async fn a_waiter_cancelled_after_its_grant_gives_the_bytes_back() {
    let budget = Budget::new("test", 10);
    let held = budget.reserve(10).await.unwrap();
    let granted = budget.reserve(10);
    drop(held);
    assert_eq!((budget.used(), budget.waiting()), (10, 0));
    drop(granted);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn what_cannot_wait_does_not_overtake_those_who_do() {
    let budget = Budget::new("test", 10);
    let held = budget.reserve(6).await.unwrap();
    let waiting = budget.reserve(5);
    let refused = budget.try_reserve(1).unwrap_err();
    let (requested, used, capacity) = (1, 6, 10);
    assert_eq!(
        refused,
        Error::Exhausted {
            budget: "test",
            requested,
            used,
            capacity
        }
    );
    drop(waiting);
    assert_eq!(budget.try_reserve(4).unwrap().bytes(), 4);
    drop(held);
}

#[tokio::test]
async fn more_than_the_capacity_is_refused_and_not_queued() {
    let budget = Budget::new("test", 10);
    let expected = Error::TooLarge {
        budget: "test",
        requested: 11,
        capacity: 10,
    };
    assert_eq!(budget.reserve(11).await.unwrap_err(), expected);
    assert_eq!(budget.try_reserve(11).unwrap_err(), expected);
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}

#[tokio::test]
async fn a_charge_overdraws_and_reservations_wait_until_the_debt_is_paid() {
    let budget = Budget::new("test", 10);
    let reply = budget.charge(15);
    assert!(budget.try_reserve(0).is_err());
    let waiting = budget.reserve(1);
    assert_eq!((budget.used(), budget.waiting()), (15, 1));
    drop(reply);
    assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap().bytes(), 1);
}

#[tokio::test]
async fn split_and_merged_permits_give_back_what_was_taken() {
    let budget = Budget::new("test", 10);
    let mut whole = budget.try_reserve(10).unwrap();
    let part = whole.split(4);
    let mut rest = whole.split(99);
    assert_eq!((whole.bytes(), part.bytes(), rest.bytes()), (0, 4, 6));
    drop(whole);
    assert_eq!(budget.used(), 10);
    rest.merge(part);
    assert_eq!((rest.bytes(), budget.used()), (10, 10));
    drop(rest);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn drained_waits_for_the_last_permit() {
    let budget = Budget::new("test", 10);
    let (a, b) = (
        budget.try_reserve(1).unwrap(),
        budget.try_reserve(1).unwrap(),
    );
    let mut drained = Box::pin(budget.drained());
    drop(a);
    assert!(futures_util::poll!(&mut drained).is_pending());
    drop(b);
    timeout(LONG, drained).await.unwrap();
}

#[tokio::test]
async fn low_memory_is_told_also_where_a_waiter_gets_some_of_it() {
    let budget = Budget::new("test", 1000);
    let told = Arc::new(Notify::new());
    budget.watch(900, 500, Arc::clone(&told));
    let few = budget.try_reserve(350).unwrap();
    let many = budget.try_reserve(600).unwrap();
    let waiting = budget.reserve(100);
    // That memory is short was told, once or not.
    let _short = futures_util::poll!(Box::pin(told.notified()));
    drop(many);
    assert_eq!(budget.used(), 450);
    timeout(LONG, told.notified()).await.unwrap();
    drop((few, waiting));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_among_many_tasks_that_come_and_go() {
    let budget = Budget::new("test", 100);
    let tasks: Vec<_> = (0..16u64)
        .map(|task| {
            let budget = budget.clone();
            tokio::spawn(async move {
                for round in 0..500u64 {
                    let reserve = budget.reserve((task * 31 + round * 17) % 100 + 1);
                    if (task + round).is_multiple_of(3) {
                        tokio::task::yield_now().await;
                        drop(reserve);
                    } else {
                        let permit = reserve.await.unwrap();
                        assert!(budget.used() <= 100);
                        tokio::task::yield_now().await;
                        drop(permit);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        timeout(LONG, task).await.unwrap().unwrap();
    }
    timeout(LONG, budget.drained()).await.unwrap();
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}
