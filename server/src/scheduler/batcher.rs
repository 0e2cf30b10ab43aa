//! Joins requests to batches. Pure: the caller passes the time.
//!
//! Invariants: what is pushed comes out once, by [`Batcher::poll`] or [`Batcher::remove`]; a batch
//! holds requests of one shape, in order of arrival, and at most `max_rows` rows; the oldest
//! request never waits longer than `max_delay` while an instance asks, but for those of its batch that
//! are not here, or behind `LOOKAHEAD` shapes of which some are not; what is brought back for a batch is
//! at most `max_bytes`, or one request; nothing takes time in the number of shapes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::Ticket;

/// How many shapes [`Batcher::poll`] looks at: enough that some whose requests are not here hold nobody
/// up, few since it is under the queue's lock.
const LOOKAHEAD: usize = 64;

/// How batches are formed.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Rows in a batch, at most. One request with more rows still makes a batch of its own.
    pub max_rows: usize,
    /// Rows at which a batch goes without waiting; the largest that can be formed is taken.
    pub preferred: Vec<usize>,
    /// How long the oldest request waits for company.
    pub max_delay: Duration,
    /// Bytes that can leave memory in a batch of which some have left, at most. One request with more
    /// still makes a batch of its own.
    pub max_bytes: u64,
    /// Whether requests are joined at all.
    pub join: bool,
}

impl Policy {
    /// Every request is a batch of its own.
    pub fn each() -> Self {
        Self {
            max_rows: 1,
            preferred: Vec::new(),
            max_delay: Duration::ZERO,
            max_bytes: u64::MAX,
            join: false,
        }
    }
}

/// How large a request is, or several are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Rows of the batch dimension.
    pub rows: usize,
    /// Bytes that can leave memory.
    pub bytes: u64,
}

/// What an instance that asks for work should do.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// Run these.
    Ready(Vec<T>),
    /// Ask again at this time, or when something was pushed.
    Until(Instant),
    /// Ask again when something was pushed.
    Idle,
    /// A batch is due, but not all of its requests are here; ask again when they are, or when another
    /// batch is due.
    Absent {
        /// The requests of the batch.
        needed: Vec<Ticket>,
        /// When another is due, as far as that is known.
        until: Option<Instant>,
    },
}

impl<T> Decision<T> {
    /// Changes what is to run.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Decision<U> {
        match self {
            Self::Ready(values) => Decision::Ready(values.into_iter().map(change).collect()),
            Self::Until(until) => Decision::Until(until),
            Self::Idle => Decision::Idle,
            Self::Absent { needed, until } => Decision::Absent { needed, until },
        }
    }
}

/// Names requests of one shape: the ticket of the first of them.
type GroupId = Ticket;

/// The waiting requests of a model.
#[derive(Debug)]
pub struct Batcher<T> {
    policy: Policy,
    /// Requests by shape. Only requests of one shape can share a batch.
    groups: BTreeMap<GroupId, Group<T>>,
    shapes: HashMap<Vec<i64>, GroupId>,
    tickets: BTreeMap<Ticket, GroupId>,
    /// Groups by their oldest requests, which is the order in which they are due.
    order: BTreeMap<Ticket, Place>,
    /// Of those, the ones that may make a batch before they are due.
    early: BTreeSet<Ticket>,
    next: Ticket,
    /// When the last request arrived.
    latest: Option<Instant>,
    /// The requests of a batch that was due before the one given out last, and not all here.
    overtaken: Vec<Ticket>,
}

/// Where a group is in line.
#[derive(Debug)]
struct Place {
    group: GroupId,
    due: Instant,
}

#[derive(Debug)]
struct Group<T> {
    shape: Vec<i64>,
    items: BTreeMap<Ticket, Item<T>>,
    /// That of all items together.
    size: Size,
    /// Its key in the order, once it has one.
    placed: Option<Ticket>,
}

#[derive(Debug)]
struct Item<T> {
    size: Size,
    arrived: Instant,
    value: T,
}

impl<T> Batcher<T> {
    /// Makes an empty batcher.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            groups: BTreeMap::new(),
            shapes: HashMap::new(),
            tickets: BTreeMap::new(),
            order: BTreeMap::new(),
            early: BTreeSet::new(),
            next: 0,
            latest: None,
            overtaken: Vec::new(),
        }
    }

    /// Sets the most bytes that a batch has brought back. Call it before the first request.
    pub fn limit(&mut self, max_bytes: u64) {
        self.policy.max_bytes = max_bytes;
    }

    /// Returns how many requests wait.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Returns whether none waits.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Returns the ticket that the next request gets.
    pub fn next_ticket(&self) -> Ticket {
        self.next
    }

    /// Takes in a request. Requests with the same `shape` may share a batch.
    pub fn push(&mut self, now: Instant, size: Size, shape: Vec<i64>, value: T) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        // Who came later may have looked at the clock before; what is older is due first all the same.
        let arrived = self.latest.map_or(now, |latest| latest.max(now));
        self.latest = Some(arrived);
        let item = Item {
            size,
            arrived,
            value,
        };
        let id = match self.shapes.get(&shape) {
            Some(id) => *id,
            None => {
                self.shapes.insert(shape.clone(), ticket);
                ticket
            }
        };
        let group = self.groups.entry(id).or_insert_with(|| Group {
            shape,
            items: BTreeMap::new(),
            size: Size::default(),
            placed: None,
        });
        group.size.grow(size);
        group.items.insert(ticket, item);
        self.tickets.insert(ticket, id);
        self.place(id);
        ticket
    }

    /// Takes a request out, if it still waits.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let id = self.tickets.remove(&ticket)?;
        let group = self.groups.get_mut(&id)?;
        let item = group.items.remove(&ticket)?;
        group.size.shrink(item.size);
        self.place(id);
        Some(item.value)
    }

    /// Takes all requests out, in order of arrival.
    pub fn take_all(&mut self) -> Vec<T> {
        self.shapes.clear();
        self.tickets.clear();
        self.order.clear();
        self.early.clear();
        let groups = std::mem::take(&mut self.groups);
        let items = groups.into_values().flat_map(|group| group.items);
        let items: BTreeMap<Ticket, Item<T>> = items.collect();
        items.into_values().map(|item| item.value).collect()
    }

    /// Returns a request that waits.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        let group = self.groups.get_mut(self.tickets.get(&ticket)?)?;
        Some(&mut group.items.get_mut(&ticket)?.value)
    }

    /// Decides what an instance with room should do now. With `hurry` nothing waits for company. A
    /// batch of which a request is not `here` yet is not run; ask again when it is.
    pub fn poll(&mut self, now: Instant, hurry: bool, here: impl Fn(&T) -> bool) -> Decision<T> {
        // The oldest first, but a full batch of one shape does not wait for the company of another.
        let mut first = self.order.iter().take(LOOKAHEAD);
        let waiting = first.find(|(_, place)| !hurry && now < place.due);
        let waiting = waiting.map_or(Ticket::MAX, |(oldest, _)| *oldest);
        let due = self.order.range(..waiting).map(|(oldest, _)| oldest);
        let candidates = due.chain(self.early.range(waiting..)).take(LOOKAHEAD);
        let (mut ready, mut needed, mut passed) = (None, Vec::new(), Vec::new());
        for oldest in candidates {
            let id = self.order[oldest].group;
            let group = &self.groups[&id];
            match self.policy.choose(group, now, hurry, &here) {
                Ok(count) if group.first(count).all(&here) => {
                    ready = Some((id, count));
                    break;
                }
                Ok(count) => {
                    if passed.is_empty() {
                        needed = group.items.keys().take(count).copied().collect();
                    }
                    passed.push(*oldest);
                }
                Err(_) => {}
            }
        }
        let Some((id, count)) = ready else {
            let mut later = self.order.range(waiting..);
            let later = later.find(|(oldest, _)| passed.binary_search(oldest).is_err());
            let until = later.map(|(_, place)| place.due);
            return match passed.is_empty() {
                false => Decision::Absent { needed, until },
                true => until.map_or(Decision::Idle, Decision::Until),
            };
        };
        self.overtaken = needed;
        Decision::Ready(self.take(id, count))
    }

    /// Takes the requests of the batch that the one given out last has overtaken, as not all of them
    /// were here.
    pub fn take_overtaken(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.overtaken)
    }

    /// Takes the oldest `count` requests of a group out.
    fn take(&mut self, id: GroupId, count: usize) -> Vec<T> {
        let mut batch = Vec::with_capacity(count);
        if let Some(group) = self.groups.get_mut(&id) {
            while batch.len() < count
                && let Some((ticket, item)) = group.items.pop_first()
            {
                group.size.shrink(item.size);
                self.tickets.remove(&ticket);
                batch.push(item.value);
            }
        }
        self.place(id);
        batch
    }

    /// Puts a group in line anew, after its requests have changed. One without any goes.
    fn place(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let oldest = group.items.first_key_value();
        let oldest = oldest.map(|(ticket, item)| (*ticket, item.arrived));
        let was = std::mem::replace(&mut group.placed, oldest.map(|(ticket, _)| ticket));
        if let Some(was) = was
            && group.placed != Some(was)
        {
            self.order.remove(&was);
            self.early.remove(&was);
        }
        let Some((oldest, arrived)) = oldest else {
            self.shapes.remove(&group.shape);
            self.groups.remove(&id);
            return;
        };
        if self.policy.may_be_early(group) {
            self.early.insert(oldest);
        } else {
            self.early.remove(&oldest);
        }
        let due = arrived + self.policy.max_delay;
        self.order.insert(oldest, Place { group: id, due });
    }
}

impl Size {
    fn grow(&mut self, by: Self) {
        self.rows += by.rows;
        self.bytes += by.bytes;
    }

    fn shrink(&mut self, by: Self) {
        self.rows -= by.rows;
        self.bytes -= by.bytes;
    }
}

impl<T> Group<T> {
    /// Returns the oldest `count` requests.
    fn first(&self, count: usize) -> impl Iterator<Item = &T> {
        self.items.values().take(count).map(|item| &item.value)
    }
}

impl Policy {
    /// Returns whether requests of one shape make a batch before the oldest has waited; also where that
    /// depends on which are here. Those of which this is false do not.
    fn may_be_early<T>(&self, group: &Group<T>) -> bool {
        let Size { rows, bytes } = group.size;
        if !self.join || rows >= self.max_rows || bytes > self.max_bytes {
            return true;
        }
        let mut rows = 0;
        let mut is_preferred = |item: &Item<T>| {
            rows += item.size.rows;
            self.preferred.contains(&rows)
        };
        !self.preferred.is_empty() && group.items.values().any(&mut is_preferred)
    }

    /// Returns how many of the oldest requests make the next batch, or when to ask again. What is in
    /// memory already is not cut, however large: that would spare nothing. What comes back counts as
    /// before once it is here, else a batch would grow as its requests arrive.
    fn choose<T>(
        &self,
        group: &Group<T>,
        now: Instant,
        hurry: bool,
        here: impl Fn(&T) -> bool,
    ) -> Result<usize, Instant> {
        if !self.join {
            return Ok(1);
        }
        let (mut count, mut rows, mut bytes, mut preferred) = (0, 0, 0, None);
        let mut full = false;
        for item in group.items.values() {
            let too_many = rows + item.size.rows > self.max_rows;
            let too_large = bytes + item.size.bytes > self.max_bytes && !here(&item.value);
            if count > 0 && (too_many || too_large) {
                full = true;
                break;
            }
            count += 1;
            rows += item.size.rows;
            bytes += item.size.bytes;
            if self.preferred.contains(&rows) {
                preferred = Some(count);
            }
        }
        full |= rows >= self.max_rows;
        let due = group.items.values().next();
        let due = due.map(|oldest| oldest.arrived + self.max_delay);
        let waits = due.filter(|due| now < *due);
        // What has waited for company long enough takes all of it; without a delay nothing ever waits for it.
        let prefers = waits.is_some() || self.max_delay.is_zero();
        match preferred {
            _ if hurry => Ok(count),
            Some(preferred) if prefers => Ok(preferred),
            _ if full => Ok(count),
            _ => waits.map_or(Ok(count), Err),
        }
    }
}

#[cfg(test)]
#[path = "batcher_tests.rs"]
mod tests;
