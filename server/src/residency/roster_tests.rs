use proptest::prelude::*;

use super::*;

const TURN: Duration = Duration::from_millis(100);
const MS: Duration = Duration::from_millis(1);

/// Does what the roster says until it has nothing to do, and returns what was done.
fn settle(roster: &mut Roster, now: Instant) -> Vec<Step> {
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
    if roster.awaited().is_none() {
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
    let mut roster = of(2, 1, start);
    roster.acquire(1, start);
    assert_eq!(roster.step(start), Step::Evict(0));
    roster.left(0, start);
    fail(&mut roster, 1, start);
    roster.release(1);
    roster.acquire(0, start);
    assert_eq!(settle(&mut roster, start), [Step::BringIn(0)]);
    roster.release(0);
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

/// What happens to a roster.
#[derive(Debug, Clone)]
enum Event {
    Acquire(usize),
    Release(usize),
    Pass(u32),
    Step,
    /// The step that is under way ends.
    End(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..6usize).prop_map(Event::Acquire),
        3 => (0..6usize).prop_map(Event::Release),
        1 => prop_oneof![4 => 0..150u32, 1 => 0..5000u32].prop_map(Event::Pass),
        3 => Just(Event::Step),
        3 => any::<bool>().prop_map(Event::End),
    ]
}

/// What is known of the models from outside.
struct Oracle {
    bytes: Vec<u64>,
    pinned: u64,
    budget: u64,
    uses: Vec<usize>,
    /// When each was used last.
    used: Vec<u64>,
    /// Since when each is in memory, and since when it waits.
    within: Vec<Option<Instant>>,
    waits: Vec<Option<(u64, Instant)>>,
    /// When those are tried again that did not come.
    again: Vec<Option<Instant>>,
    under_way: Option<Step>,
    clock: u64,
}

impl Oracle {
    fn first_in_line(&self) -> Option<usize> {
        (0..self.bytes.len())
            .filter(|&id| self.waits[id].is_some())
            .min_by_key(|&id| self.waits[id])
    }

    fn is_idle(&self, id: usize) -> bool {
        self.uses[id] == 0 && self.within[id].is_some()
    }

    /// Returns who is tried again without a request now.
    fn due(&self, now: Instant) -> Option<usize> {
        let idle = (0..self.bytes.len()).filter(|&id| self.is_idle(id));
        let busy = self.held() - idle.map(|id| self.bytes[id]).sum::<u64>();
        (0..self.bytes.len())
            .filter(|&id| self.again[id].is_some_and(|again| again <= now))
            .filter(|&id| self.within[id].is_none() && busy + self.bytes[id] <= self.budget)
            .min_by_key(|&id| self.again[id])
    }

    fn held(&self) -> u64 {
        let held = (0..self.bytes.len()).filter(|&id| {
            let moves =
                matches!(self.under_way, Some(Step::Evict(it) | Step::BringIn(it)) if it == id);
            moves || self.within[id].is_some()
        });
        self.pinned + held.map(|id| self.bytes[id]).sum::<u64>()
    }

    /// Checks a step, and takes it as begun.
    fn check(&mut self, step: Step, now: Instant) {
        let waiting = self.first_in_line();
        let first = waiting.or_else(|| self.due(now));
        match step {
            Step::Look(_) => panic!("it has just been looked at"),
            Step::BringIn(id) => {
                assert_eq!(Some(id), first, "out of order");
                self.waits[id] = None;
                self.under_way = Some(step);
                assert!(self.held() <= self.budget, "over the budget");
            }
            Step::Evict(id) => {
                let since = self.within[id].expect("it is in memory");
                let first = first.expect("somebody needs the room");
                assert!(
                    self.held() + self.bytes[first] > self.budget,
                    "there is room"
                );
                let idle: Vec<_> = (0..self.bytes.len())
                    .filter(|&id| self.is_idle(id))
                    .collect();
                if self.uses[id] == 0 {
                    let least = idle.iter().map(|&id| self.used[id]).min();
                    assert_eq!(Some(self.used[id]), least, "not the least recently used");
                } else {
                    assert!(idle.is_empty(), "a busy one goes before an idle one");
                    let (_, waits) = self.waits[first].expect("it waits");
                    assert!(now >= waits.max(since) + TURN, "before its turn is over");
                }
                self.within[id] = None;
                self.under_way = Some(step);
            }
            Step::Wait(until) => {
                let Some(first) = first else {
                    let later = self.again.iter().flatten().filter(|again| **again > now);
                    return assert_eq!(until, later.min().copied());
                };
                assert!(waiting.is_some(), "it is due");
                assert!(self.held() + self.bytes[first] > self.budget);
                assert!(until.is_some_and(|until| until > now), "nobody would wake");
            }
        }
    }

    fn end(&mut self, roster: &Roster, came: bool, now: Instant) {
        let step = self.under_way.take();
        if let Some(Step::BringIn(id)) = step {
            let again = match self.again[id] {
                Some(again) if again > now => again,
                // The pauses have a test of their own.
                _ => roster.members[id].failed.map_or(now, |failed| failed.again),
            };
            self.again[id] = (!came).then_some(again);
        }
        match step {
            Some(Step::BringIn(id)) if came => self.within[id] = Some(now),
            Some(Step::BringIn(id) | Step::Evict(id)) if self.uses[id] > 0 => {
                self.waits[id] = Some((self.clock, now));
            }
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn it_keeps_to_the_budget_the_order_and_the_turns(
        bytes in proptest::collection::vec(1..5u64, 6),
        pinned in 0..3u64,
        spare in 0..8u64,
        events in proptest::collection::vec(event(), 1..300),
    ) {
        let mut now = Instant::now();
        let budget = pinned + 4 + spare;
        let mut roster = Roster::new(Some(budget), TURN);
        roster.pin(pinned);
        for &bytes in &bytes {
            roster.admit(bytes, now).unwrap();
            settle(&mut roster, now);
        }
        prop_assert!(roster.bytes() <= budget);
        let mut oracle = Oracle {
            pinned,
            budget,
            uses: vec![0; 6],
            used: vec![0; 6],
            within: (0..6).map(|id| roster.since(id)).collect(),
            waits: vec![None; 6],
            again: vec![None; 6],
            under_way: None,
            clock: 0,
            bytes,
        };
        for event in events {
            oracle.clock += 1;
            match event {
                Event::Acquire(id) => {
                    roster.acquire(id, now);
                    oracle.uses[id] += 1;
                    oracle.used[id] = oracle.clock;
                    let moves = matches!(oracle.under_way, Some(Step::Evict(it) | Step::BringIn(it)) if it == id);
                    if oracle.within[id].is_none() && !moves {
                        oracle.waits[id].get_or_insert((oracle.clock, now));
                    }
                }
                Event::Release(id) if oracle.uses[id] > 0 => {
                    oracle.uses[id] -= 1;
                    oracle.used[id] = oracle.clock;
                    prop_assert_eq!(roster.release(id), oracle.uses[id] == 0);
                    if oracle.uses[id] == 0 {
                        oracle.waits[id] = None;
                    }
                }
                Event::Pass(ms) => now += ms * MS,
                Event::Step if oracle.under_way.is_none() => {
                    let mut step = roster.step(now);
                    if let Step::Look(id) = step {
                        prop_assert_eq!(Some(id), oracle.due(now));
                        roster.looks_well(id, now);
                        step = roster.step(now);
                    }
                    oracle.check(step, now);
                }
                Event::End(came) => {
                    match oracle.under_way {
                        Some(Step::BringIn(id)) if came => roster.came(id, now),
                        Some(Step::BringIn(id)) => roster.failed(id, now),
                        Some(Step::Evict(id)) => roster.left(id, now),
                        _ => {}
                    }
                    oracle.end(&roster, came, now);
                }
                _ => {}
            }
            prop_assert_eq!(roster.bytes(), oracle.held());
            prop_assert_eq!(roster.is_awaited(), oracle.first_in_line().is_some());
        }
    }

    #[test]
    fn nobody_waits_for_ever_behind_models_that_are_always_busy(
        bytes in proptest::collection::vec(1..5u64, 2..7),
        spare in 0..8u64,
    ) {
        let mut now = Instant::now();
        let mut roster = Roster::new(Some(4 + spare), TURN);
        for &bytes in &bytes {
            roster.admit(bytes, now).unwrap();
            settle(&mut roster, now);
        }
        for id in 0..bytes.len() {
            roster.acquire(id, now);
        }
        // None is ever released. Each must have come within as many turns as there are models.
        let mut seen: Vec<bool> = (0..bytes.len()).map(|id| roster.since(id).is_some()).collect();
        for _ in 0..bytes.len() {
            for step in settle(&mut roster, now) {
                if let Step::BringIn(id) = step {
                    seen[id] = true;
                }
            }
            now += TURN;
        }
        for step in settle(&mut roster, now) {
            if let Step::BringIn(id) = step {
                seen[id] = true;
            }
        }
        prop_assert!(seen.iter().all(|seen| *seen), "{seen:?}");
    }
}
