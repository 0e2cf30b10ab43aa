use super::*;

pub(super) const TURN: Duration = Duration::from_millis(100);
pub(super) const MS: Duration = Duration::from_millis(1);

/// Does what the roster says until it has nothing to do, and returns what was done.
pub(super) fn settle(roster: &mut Roster, now: Instant) -> Vec<Step> {
    let mut done = Vec::new();
    loop {
        let step = roster.step(now);
        match step {
            Step::Evict(id) => roster.left(id, now),
            Step::BringIn(id) => roster.came(id, now),
            Step::Look(id) => {
                roster.looks_well(id, now);
                continue;
            }
            Step::Wait(_) => return done,
        }
        done.push(step);
    }
}

/// Makes a roster of models of one byte each that have come to rest.
fn of(models: usize, budget: u64, now: Instant) -> Roster {
    let mut roster = Roster::new(Some(budget), TURN);
    for _ in 0..models {
        roster.admit(1, now).unwrap();
        settle(&mut roster, now);
    }
    roster
}

#[test]
fn at_the_start_those_stay_that_fit_and_came_first() {
    let now = Instant::now();
    let mut roster = of(4, 2, now);
    let within = |roster: &Roster| {
        (0..4)
            .map(|id| roster.since(id).is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(within(&roster), [true, true, false, false]);
    // One that never goes takes the place of one that may.
    roster.pin(1);
    assert_eq!(settle(&mut roster, now), [Step::Evict(1)]);
    assert_eq!(roster.bytes(), 2);
}

#[test]
fn without_a_bound_nothing_ever_goes() {
    let now = Instant::now();
    let mut roster = Roster::new(None, TURN);
    for _ in 0..3 {
        roster.admit(u64::MAX / 4, now).unwrap();
    }
    assert_eq!(roster.step(now), Step::Wait(None));
}

#[test]
fn a_model_that_would_never_fit_is_refused() {
    let now = Instant::now();
    let mut roster = Roster::new(Some(10), TURN);
    roster.pin(4);
    let error = roster.admit(7, now).unwrap_err();
    assert_eq!((error.bytes, error.pinned, error.budget), (7, 4, 10));
    roster.admit(6, now).unwrap();
}

#[test]
fn the_least_recently_used_goes_and_a_busy_one_stays() {
    let now = Instant::now();
    let mut roster = of(4, 3, now);
    for id in [1, 0, 2] {
        roster.acquire(id, now);
        roster.release(id);
    }
    roster.acquire(1, now);
    roster.acquire(3, now);
    assert_eq!(settle(&mut roster, now), [Step::Evict(0), Step::BringIn(3)]);
}

#[test]
fn where_all_are_busy_one_goes_after_its_turn_and_comes_back_after_the_next() {
    let start = Instant::now();
    let mut roster = of(2, 1, start);
    roster.acquire(0, start);
    let asked = start + 10 * MS;
    roster.acquire(1, asked);
    // Its turn is from when the other asked: before, nobody waited.
    assert_eq!(roster.step(asked), Step::Wait(Some(asked + TURN)));
    let over = asked + TURN;
    let swap = |from, to| [Step::Evict(from), Step::BringIn(to)];
    assert_eq!(settle(&mut roster, over), swap(0, 1));
    assert_eq!(roster.step(over), Step::Wait(Some(over + TURN)));
    assert_eq!(settle(&mut roster, over + TURN), swap(1, 0));
}

#[test]
fn a_model_that_becomes_idle_goes_before_its_turn_is_over() {
    let now = Instant::now();
    let mut roster = of(2, 1, now);
    roster.acquire(0, now);
    roster.acquire(1, now);
    assert_eq!(settle(&mut roster, now), []);
    assert!(roster.release(0));
    assert_eq!(settle(&mut roster, now), [Step::Evict(0), Step::BringIn(1)]);
}

#[test]
fn nobody_is_brought_in_for_requests_that_have_gone() {
    let now = Instant::now();
    let mut roster = of(2, 1, now);
    roster.acquire(1, now);
    assert!(roster.is_awaited());
    roster.release(1);
    assert!(!roster.is_awaited());
    assert_eq!(settle(&mut roster, now), []);
}

#[test]
fn what_did_not_come_is_tried_again_behind_those_that_wait() {
    let now = Instant::now();
    let mut roster = of(3, 1, now);
    roster.acquire(1, now);
    roster.acquire(2, now);
    assert_eq!(roster.step(now), Step::Evict(0));
    roster.left(0, now);
    assert_eq!(roster.step(now), Step::BringIn(1));
    roster.failed(1, now);
    assert_eq!(roster.step(now), Step::BringIn(2));
}

/// Fails to bring a model in.
fn fail(roster: &mut Roster, id: Id, now: Instant) {
    if roster.members[id].failed.is_some() {
        assert_eq!(roster.step(now), Step::Look(id));
        roster.looks_well(id, now);
    }
    assert_eq!(roster.step(now), Step::BringIn(id));
    roster.failed(id, now);
}

#[test]
fn what_did_not_come_is_tried_again_without_a_request_after_longer_and_longer_pauses() {
    let mut now = Instant::now();
    let mut roster = of(2, 1, now);
    roster.acquire(1, now);
    assert_eq!(roster.step(now), Step::Evict(0));
    roster.left(0, now);
    fail(&mut roster, 1, now);
    // Tried for the request once more, which does not make the pause longer.
    fail(&mut roster, 1, now);
    roster.release(1);
    for secs in [1, 2, 4, 8, 16, 32, 60, 60] {
        let pause = Duration::from_secs(secs);
        assert_eq!(roster.step(now), Step::Wait(Some(now + pause)));
        assert_eq!(roster.step(now + pause - MS), Step::Wait(Some(now + pause)));
        now += pause;
        fail(&mut roster, 1, now);
    }
    now += Duration::from_secs(60);
    assert_eq!(settle(&mut roster, now), [Step::BringIn(1)]);
    assert_eq!(roster.step(now), Step::Wait(None));
    assert!(!roster.is_wanted());
}

#[test]
fn for_what_nobody_waits_for_only_idle_models_go_and_only_where_that_is_enough() {
    let start = Instant::now();
    let mut roster = Roster::new(Some(4), TURN);
    for bytes in [2, 2, 3] {
        roster.admit(bytes, start).unwrap();
        settle(&mut roster, start);
    }
    roster.acquire(2, start);
    assert_eq!(roster.step(start), Step::Evict(1));
    roster.left(1, start);
    assert_eq!(roster.step(start), Step::Evict(0));
    roster.left(0, start);
    fail(&mut roster, 2, start);
    roster.release(2);
    // Both are back meanwhile, and one is busy.
    for id in [0, 1] {
        roster.acquire(id, start);
    }
    let both = [Step::BringIn(0), Step::BringIn(1)];
    assert_eq!(settle(&mut roster, start), both);
    roster.release(0);
    let due = start + *PAUSES.start();
    assert_eq!(roster.step(due), Step::Wait(None));
    assert!(
        roster.release(1) && roster.is_wanted(),
        "and then it is looked at"
    );
    let all = [Step::Evict(0), Step::Evict(1), Step::BringIn(2)];
    assert_eq!(settle(&mut roster, due), all);
}

#[test]
fn nobody_goes_for_a_model_that_does_not_look_well() {
    let start = Instant::now();
    let mut roster = one_that_did_not_come(start);
    let mut now = start + *PAUSES.start();
    for secs in [2, 4, 8] {
        assert_eq!(roster.step(now), Step::Look(1));
        roster.failed(1, now);
        let again = now + Duration::from_secs(secs);
        assert_eq!(roster.step(now), Step::Wait(Some(again)));
        now = again;
    }
    assert!(roster.since(0).is_some());
    let swap = [Step::Evict(0), Step::BringIn(1)];
    assert_eq!(settle(&mut roster, now), swap);
}

/// Makes two models of which one fits. The second did not come, and the first is in memory, idle.
fn one_that_did_not_come(start: Instant) -> Roster {
    let mut roster = of(2, 1, start);
    roster.acquire(1, start);
    assert_eq!(roster.step(start), Step::Evict(0));
    roster.left(0, start);
    fail(&mut roster, 1, start);
    roster.release(1);
    roster.acquire(0, start);
    assert_eq!(settle(&mut roster, start), [Step::BringIn(0)]);
    roster.release(0);
    roster
}

#[test]
fn nobody_goes_for_requests_to_a_model_that_does_not_look_well() {
    let start = Instant::now();
    let mut roster = one_that_did_not_come(start);
    let now = start + *PAUSES.start();
    roster.acquire(1, now);
    assert!(roster.awaits(1));
    assert_eq!(roster.step(now), Step::Look(1));
    roster.failed(1, now);
    roster.release(1);
    let again = now + 2 * *PAUSES.start();
    assert_eq!(roster.step(now), Step::Wait(Some(again)));
    // Once it looks well, it comes for the next request.
    roster.acquire(1, now + MS);
    let swap = [Step::Evict(0), Step::BringIn(1)];
    assert_eq!(settle(&mut roster, now + MS), swap);
}

#[test]
fn a_look_counts_for_the_requests_that_it_was_made_for() {
    let start = Instant::now();
    let mut roster = one_that_did_not_come(start);
    let now = start + *PAUSES.start();
    roster.acquire(0, now);
    roster.acquire(1, now);
    assert_eq!(roster.step(now), Step::Look(1));
    roster.looks_well(1, now);
    // It waits for the turn of the other to end, and its request goes.
    assert!(matches!(roster.step(now), Step::Wait(Some(_))));
    roster.release(1);
    roster.acquire(1, now + MS);
    assert_eq!(roster.step(now + MS), Step::Look(1));
}

#[test]
fn for_a_model_that_looks_well_and_does_not_come_nobody_goes_before_its_pause_is_over() {
    let start = Instant::now();
    let mut roster = one_that_did_not_come(start);
    let mut now = start;
    for secs in [1, 2, 4] {
        roster.acquire(1, now);
        let due = now + Duration::from_secs(secs);
        assert!(!roster.may_be_tried(1, now));
        assert_eq!(roster.step(now), Step::Wait(Some(due)));
        assert_eq!(roster.step(due - MS), Step::Wait(Some(due)));
        now = due;
        assert!(roster.may_be_tried(1, now));
        assert_eq!(roster.step(now), Step::Look(1));
        roster.looks_well(1, now);
        assert_eq!(roster.step(now), Step::Evict(0));
        roster.left(0, now);
        assert_eq!(roster.step(now), Step::BringIn(1));
        roster.failed(1, now);
        roster.release(1);
        roster.acquire(0, now);
        assert_eq!(settle(&mut roster, now), [Step::BringIn(0)]);
        roster.release(0);
    }
}

#[test]
fn one_that_waits_for_the_end_of_its_pause_holds_nobody_up() {
    let start = Instant::now();
    let mut roster = of(3, 1, start);
    for id in [1, 2] {
        roster.acquire(id, start);
    }
    assert_eq!(roster.step(start), Step::Evict(0));
    roster.left(0, start);
    fail(&mut roster, 1, start);
    assert_eq!(settle(&mut roster, start), [Step::BringIn(2)]);
    let due = start + *PAUSES.start();
    assert_eq!(roster.step(due - MS), Step::Wait(Some(due)));
    let swap = [Step::Evict(2), Step::BringIn(1)];
    assert_eq!(settle(&mut roster, due), swap, "a turn is long over");
}

#[test]
fn what_is_given_up_is_left_alone() {
    let now = Instant::now();
    for who in [None, Some(1)] {
        let mut roster = of(2, 2, now);
        for id in 0..2 {
            roster.members[id].place = Place::Coming;
            roster.failed(id, now);
        }
        roster.give_up(who);
        let later = now + *PAUSES.end();
        let expected = match who {
            None => vec![],
            Some(_) => vec![Step::BringIn(0)],
        };
        assert_eq!(settle(&mut roster, later), expected);
    }
}

#[test]
fn an_absence_begins_when_the_weights_go_or_the_request_is_queued() {
    let start = Instant::now();
    let mut roster = of(2, 1, start);
    let at = |ms: u32| start + ms * MS;
    roster.acquire(0, at(0));
    roster.acquire(1, at(0));
    assert_eq!(settle(&mut roster, at(200)).len(), 2);
    assert_eq!(settle(&mut roster, at(500)).len(), 2);
    // Model 0 was away from 200 to 500 ms.
    for (queued, absence) in [(0, 300), (200, 300), (400, 100), (600, 0)] {
        let absence = absence * MS;
        assert_eq!(roster.absence(0, at(queued), at(700)), absence, "{queued}");
    }
    // Model 1 has been since then.
    assert_eq!(roster.absence(1, at(550), at(700)), 150 * MS);
}
