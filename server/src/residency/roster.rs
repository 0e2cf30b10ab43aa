//! Decides which weights are in memory. Pure: the caller passes the time, and does what it is told.
//!
//! Models that wait come in the order in which their oldest request began to wait. For room, the model
//! goes that was used least recently, of those without a request. Where each has one, the one that is
//! in memory for longest goes, once it and the wait have lasted a turn: what runs is finished first,
//! and what is queued waits for its return. So no model waits for ever behind busy ones.
//!
//! A model that did not come is tried again after a while also without a request, so that who sends none
//! while it is not ready finds it ready in the end. For that only idle ones go, once nobody else waits.
//! Whoever waits for it, nobody goes before a look has shown that it may succeed; and where it looked well
//! and did not come all the same, nobody goes before the pause is over.
//!
//! Invariants: what is brought in fits the budget; a model with requests goes after a turn only; a
//! model is not on its way in and out at a time, and only one is on its way.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

/// How long a model that did not come is left alone: the first time, and at most.
const PAUSES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Identifies a model on its roster.
pub type Id = usize;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Let the weights of this model go, and call [`Roster::left`].
    Evict(Id),
    /// Bring this model in, and call [`Roster::came`], or [`Roster::failed`] where that fails.
    BringIn(Id),
    /// See whether this model, which did not come, could now, and call [`Roster::looks_well`], or
    /// [`Roster::failed`].
    Look(Id),
    /// Nothing, before something changes or this time has come.
    Wait(Option<Instant>),
}

/// A model finds no room, whatever else goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "its weights of {bytes} bytes do not fit into registry.weights_bytes = {budget}, of which pinned models hold {pinned}; raise that, or pin fewer models"
)]
pub struct TooLarge {
    /// Its weights.
    pub bytes: u64,
    /// What models that never go hold.
    pub pinned: u64,
    /// What all may hold.
    pub budget: u64,
}

/// The models that may leave memory.
#[derive(Debug)]
pub struct Roster {
    /// `None` where there is no bound.
    budget: Option<u64>,
    turn: Duration,
    pinned: u64,
    members: Vec<Member>,
    /// Orders what happens.
    clock: u64,
}

#[derive(Debug)]
struct Member {
    bytes: u64,
    place: Place,
    /// Requests that are queued or run.
    uses: usize,
    /// When a request last came or was answered, by the roster's clock.
    used: u64,
    /// When it last began to leave.
    went: Option<Instant>,
    /// It did not come.
    failed: Option<Failed>,
}

/// When a model that did not come is tried again, and after which pause.
#[derive(Debug, Clone, Copy)]
struct Failed {
    again: Instant,
    pause: Duration,
    /// Before this nobody goes for it.
    evicts: Instant,
    /// A look has shown that it may come.
    looks_well: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In memory since then.
    In(Instant),
    Coming,
    Leaving,
    Out,
    /// Out, with requests that wait since then: by the roster's clock, and in time.
    Awaited(u64, Instant),
}

impl Roster {
    /// Makes a roster for models that hold at most `budget` bytes together. A busy one goes after a
    /// `turn`, where another waits for as long.
    pub fn new(budget: Option<u64>, turn: Duration) -> Self {
        Self {
            budget,
            turn,
            pinned: 0,
            members: Vec::new(),
            clock: 0,
        }
    }

    /// Adds a model that never goes. It may exceed the budget, so add these before the others.
    pub fn pin(&mut self, bytes: u64) {
        self.pinned += bytes;
    }

    /// Adds a model that is in memory and may leave it. It goes first where there is no room.
    ///
    /// # Errors
    /// It does not fit beside the pinned ones, and is not on the roster.
    pub fn admit(&mut self, bytes: u64, now: Instant) -> Result<Id, TooLarge> {
        if let Some(budget) = self.budget
            && bytes.saturating_add(self.pinned) > budget
        {
            let pinned = self.pinned;
            return Err(TooLarge {
                bytes,
                pinned,
                budget,
            });
        }
        self.members.push(Member {
            bytes,
            place: Place::In(now),
            uses: 0,
            used: 0,
            went: None,
            failed: None,
        });
        Ok(self.members.len() - 1)
    }

    /// Notes that a request to a model came.
    pub fn acquire(&mut self, id: Id, now: Instant) {
        self.clock += 1;
        let member = &mut self.members[id];
        member.uses += 1;
        member.used = self.clock;
        if member.place == Place::Out {
            member.place = Place::Awaited(self.clock, now);
        }
    }

    /// Notes that a request to a model was answered. Returns whether it was the last.
    pub fn release(&mut self, id: Id) -> bool {
        self.clock += 1;
        let member = &mut self.members[id];
        member.uses = member.uses.saturating_sub(1);
        member.used = self.clock;
        let is_idle = member.uses == 0;
        if is_idle && matches!(member.place, Place::Awaited(..)) {
            member.place = Place::Out;
            // Who asks next is not to rely on a look of long ago.
            if let Some(failed) = &mut member.failed {
                failed.looks_well = false;
            }
        }
        is_idle
    }

    /// Returns what is to be done next, and takes it as begun.
    pub fn step(&mut self, now: Instant) -> Step {
        let awaited = self.first_in_line(now);
        let due = awaited.is_none().then(|| self.due(now)).flatten();
        let next = awaited.or(due);
        if let Some((id, _)) = next
            && self.members[id]
                .failed
                .is_some_and(|failed| !failed.looks_well)
        {
            return Step::Look(id);
        }
        let needed = next.map_or(0, |(id, _)| self.members[id].bytes);
        match (next, self.has_room(self.bytes(), needed)) {
            (None, true) => Step::Wait(self.next_due(now)),
            (Some((id, _)), true) => {
                self.members[id].place = Place::Coming;
                Step::BringIn(id)
            }
            (_, false) => match (self.least_used(), next) {
                (Some(id), _) => self.evict(id, now),
                (None, Some((_, since))) => self.end_a_turn(since, now),
                (None, None) => Step::Wait(self.next_due(now)),
            },
        }
    }

    /// Notes that a model's weights are gone. It comes back while a request waits.
    pub fn left(&mut self, id: Id, now: Instant) {
        self.clock += 1;
        let member = &mut self.members[id];
        member.place = match member.uses {
            0 => Place::Out,
            _ => Place::Awaited(self.clock, now),
        };
    }

    /// Notes that a model did not come, or does not look well. It is tried again while a request waits,
    /// behind others; else after a pause, which is longer each time.
    pub fn failed(&mut self, id: Id, now: Instant) {
        let place = self.members[id].place;
        let was_tried = place == Place::Coming;
        if was_tried || matches!(place, Place::Awaited(..)) {
            self.left(id, now);
        }
        let failed = &mut self.members[id].failed;
        let (again, pause) = match *failed {
            // A request had it tried meanwhile.
            Some(Failed { again, pause, .. }) if now < again => (again, pause),
            before => {
                let longer = |before: Failed| (2 * before.pause).min(*PAUSES.end());
                let pause = before.map_or(*PAUSES.start(), longer);
                (now + pause, pause)
            }
        };
        let evicts = match *failed {
            // Nobody has gone for a look.
            Some(Failed { evicts, .. }) if !was_tried => evicts,
            _ => again,
        };
        *failed = Some(Failed {
            again,
            pause,
            evicts,
            looks_well: false,
        });
    }

    /// Notes that a model that did not come might, by what can be seen.
    pub fn looks_well(&mut self, id: Id, _: Instant) {
        if let Some(failed) = &mut self.members[id].failed {
            failed.looks_well = true;
        }
    }

    /// Notes that a model is in memory.
    pub fn came(&mut self, id: Id, now: Instant) {
        let member = &mut self.members[id];
        member.place = Place::In(now);
        member.failed = None;
    }

    /// Tries no model again without a request: one, or all.
    pub fn give_up(&mut self, id: Option<Id>) {
        let members = self.members.iter_mut().enumerate();
        let given_up = members.filter(|(member, _)| id.is_none_or(|id| id == *member));
        given_up.for_each(|(_, member)| member.failed = None);
    }

    /// Returns since when a model is in memory, if it is.
    pub fn since(&self, id: Id) -> Option<Instant> {
        match self.members[id].place {
            Place::In(since) => Some(since),
            _ => None,
        }
    }

    /// Returns for how long of the time from `from` to `until` a model was out of memory, of the last
    /// time that it was.
    pub fn absence(&self, id: Id, from: Instant, until: Instant) -> Duration {
        let member = &self.members[id];
        let came = self.since(id).map_or(until, |since| since.min(until));
        let went = member.went.map_or(from, |went| went.max(from));
        came.saturating_duration_since(went)
    }

    /// Returns whether a request waits for a model.
    pub fn is_awaited(&self) -> bool {
        self.awaited().next().is_some()
    }

    /// Returns whether a request waits for this model.
    pub fn awaits(&self, id: Id) -> bool {
        matches!(self.members[id].place, Place::Awaited(..))
    }

    /// Returns whether a model can be tried now, of those that did not come: there is room, or others may
    /// go for it.
    pub fn may_be_tried(&self, id: Id, now: Instant) -> bool {
        let Member { bytes, failed, .. } = self.members[id];
        failed.is_none_or(|failed| failed.evicts <= now) || self.has_room(self.bytes(), bytes)
    }

    /// Returns whether a model is to come once there is room.
    pub fn is_wanted(&self) -> bool {
        self.is_awaited() || self.members.iter().any(|member| member.failed.is_some())
    }

    /// Returns what all models hold that are in memory, or on their way in or out.
    pub fn bytes(&self) -> u64 {
        let holds = |member: &&Member| !matches!(member.place, Place::Out | Place::Awaited(..));
        let held = self.members.iter().filter(holds);
        self.pinned + held.map(|member| member.bytes).sum::<u64>()
    }

    /// Returns the models with requests that wait: in which order, which, and since when.
    fn awaited(&self) -> impl Iterator<Item = (u64, Id, Instant)> {
        let members = self.members.iter().enumerate();
        members.filter_map(|(id, member)| match member.place {
            Place::Awaited(order, since) => Some((order, id, since)),
            _ => None,
        })
    }

    /// Returns the model that waits for longest, and since when, of those that may be tried.
    fn first_in_line(&self, now: Instant) -> Option<(Id, Instant)> {
        let awaited = self.awaited();
        let awaited = awaited.filter(|(_, id, _)| self.may_be_tried(*id, now));
        awaited.min().map(|(_, id, since)| (id, since))
    }

    /// Returns the model whose pause is over for longest, and since when, of those that find room once
    /// idle ones go.
    fn due(&self, now: Instant) -> Option<(Id, Instant)> {
        let idle = self.members.iter().filter(|member| member.is_idle());
        let busy = self.bytes() - idle.map(|member| member.bytes).sum::<u64>();
        let members = self.members.iter().enumerate();
        let due = members.filter_map(|(id, member)| {
            let failed = member.failed.filter(|failed| failed.again <= now)?;
            let comes = member.place == Place::Out && self.has_room(busy, member.bytes);
            comes.then_some((failed.again, id))
        });
        due.min().map(|(again, id)| (id, again))
    }

    /// Returns when the next pause is over.
    fn next_due(&self, now: Instant) -> Option<Instant> {
        let pauses = self.members.iter().filter_map(|member| member.failed);
        let later = pauses
            .map(|failed| failed.again)
            .filter(|again| *again > now);
        later.min()
    }

    /// Returns whether `needed` bytes fit beside those that are `held`.
    fn has_room(&self, held: u64, needed: u64) -> bool {
        self.budget
            .is_none_or(|budget| held.saturating_add(needed) <= budget)
    }

    /// Returns the model without requests that was used least recently; of those that never were, the
    /// one that was added last.
    fn least_used(&self) -> Option<Id> {
        let members = self.members.iter().enumerate().rev();
        let idle = members.filter(|(_, member)| member.is_idle());
        idle.min_by_key(|(_, member)| member.used).map(|(id, _)| id)
    }

    /// Evicts the model that is in memory for longest, if its turn is over.
    fn end_a_turn(&mut self, awaited_since: Instant, now: Instant) -> Step {
        let members = self.members.iter().enumerate();
        let within = members.filter_map(|(id, member)| match member.place {
            Place::In(since) => Some((since, id)),
            _ => None,
        });
        match within.min() {
            None => Step::Wait(self.next_due(now)),
            Some((since, id)) => {
                let until = since.max(awaited_since) + self.turn;
                if now < until {
                    // Another may be first in line by then.
                    Step::Wait(self.next_due(now).into_iter().chain([until]).min())
                } else {
                    self.evict(id, now)
                }
            }
        }
    }

    fn evict(&mut self, id: Id, now: Instant) -> Step {
        let member = &mut self.members[id];
        member.place = Place::Leaving;
        member.went = Some(now);
        Step::Evict(id)
    }
}

impl Member {
    /// Returns whether it is in memory without a request.
    fn is_idle(&self) -> bool {
        self.uses == 0 && matches!(self.place, Place::In(_))
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "roster_property.rs"]
mod property;
