//! A roster under random requests, times and failures, held against what is known from outside.

use proptest::prelude::*;

use super::{
    tests::{MS, TURN, settle},
    *,
};

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
    /// Returns who comes next, of those that wait. One that did not come has its pause where it would
    /// drive others out.
    fn first_in_line(&self, now: Instant) -> Option<usize> {
        let has_room = |id: usize| self.held() + self.bytes[id] <= self.budget;
        (0..self.bytes.len())
            .filter(|&id| self.waits[id].is_some())
            .filter(|&id| has_room(id) || self.again[id].is_none_or(|again| again <= now))
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
        let waiting = self.first_in_line(now);
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
                        let first = oracle.first_in_line(now).or_else(|| oracle.due(now));
                        prop_assert_eq!(Some(id), first);
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
            prop_assert_eq!(roster.is_awaited(), oracle.waits.iter().any(Option::is_some));
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
