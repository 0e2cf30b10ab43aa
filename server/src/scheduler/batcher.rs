//! Joins requests to batches. Pure: the caller passes the time.
//!
//! Invariants: what is pushed comes out once, by [`Batcher::poll`] or [`Batcher::remove`]; a batch
//! holds requests of one shape, in order of arrival, and at most `max_rows` rows; the oldest
//! request never waits longer than `max_delay` while an instance asks, but for those of its batch that
//! are not here.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::Ticket;

/// How batches are formed.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Rows in a batch, at most. One request with more rows still makes a batch of its own.
    pub max_rows: usize,
    /// Rows at which a batch goes without waiting; the largest that can be formed is taken.
    pub preferred: Vec<usize>,
    /// How long the oldest request waits for company.
    pub max_delay: Duration,
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
            join: false,
        }
    }
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

/// The waiting requests of a model.
#[derive(Debug)]
pub struct Batcher<T> {
    policy: Policy,
    /// Requests by shape, each in order of arrival. Only requests of one shape can share a batch.
    groups: Vec<Group<T>>,
    next: Ticket,
    len: usize,
    /// The requests of a batch that was due before the one given out last, and not all here.
    overtaken: Vec<Ticket>,
}

#[derive(Debug)]
struct Group<T> {
    shape: Vec<i64>,
    items: BTreeMap<Ticket, Item<T>>,
}

#[derive(Debug)]
struct Item<T> {
    rows: usize,
    arrived: Instant,
    value: T,
}

impl<T> Batcher<T> {
    /// Makes an empty batcher.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            groups: Vec::new(),
            next: 0,
            len: 0,
            overtaken: Vec::new(),
        }
    }

    /// Returns how many requests wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the ticket that the next request gets.
    pub fn next_ticket(&self) -> Ticket {
        self.next
    }

    /// Takes in a request of `rows` rows. Requests with the same `shape` may share a batch.
    pub fn push(&mut self, now: Instant, rows: usize, shape: Vec<i64>, value: T) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.len += 1;
        let item = Item {
            rows,
            arrived: now,
            value,
        };
        match self.groups.iter_mut().find(|group| group.shape == shape) {
            Some(group) => {
                group.items.insert(ticket, item);
            }
            None => self.groups.push(Group {
                shape,
                items: BTreeMap::from([(ticket, item)]),
            }),
        }
        ticket
    }

    /// Takes a request out, if it still waits.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let index = self
            .groups
            .iter()
            .position(|group| group.items.contains_key(&ticket))?;
        let item = self.groups[index].items.remove(&ticket)?;
        self.shrink(index, 1);
        Some(item.value)
    }

    /// Takes all requests out, in order of arrival.
    pub fn take_all(&mut self) -> Vec<T> {
        self.len = 0;
        let items = std::mem::take(&mut self.groups)
            .into_iter()
            .flat_map(|group| group.items);
        let items: BTreeMap<Ticket, Item<T>> = items.collect();
        items.into_values().map(|item| item.value).collect()
    }

    /// Returns a request that waits.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        let mut groups = self.groups.iter_mut();
        let item = groups.find_map(|group| group.items.get_mut(&ticket))?;
        Some(&mut item.value)
    }

    /// Decides what an instance with room should do now. With `hurry` nothing waits for company. A
    /// batch of which a request is not `here` yet is not run; ask again when it is.
    pub fn poll(&mut self, now: Instant, hurry: bool, here: impl Fn(&T) -> bool) -> Decision<T> {
        // The oldest first, but a full batch of one shape does not wait for the company of another.
        let (mut ready, mut due, mut absent) = (None, None, None);
        for (index, group) in self.groups.iter().enumerate() {
            let oldest = group.items.keys().next().copied();
            match self.policy.choose(group, now, hurry) {
                Ok(count) if !group.first(count).all(&here) => {
                    let needed = group.items.keys().take(count).copied().collect();
                    absent = absent.into_iter().chain([(oldest, needed)]).min();
                }
                Ok(count) => ready = ready.into_iter().chain([(oldest, index, count)]).min(),
                Err(until) => due = due.into_iter().chain([until]).min(),
            }
        }
        let Some((first, index, count)) = ready else {
            if let Some((_, needed)) = absent {
                return Decision::Absent { needed, until: due };
            }
            return due.map_or(Decision::Idle, Decision::Until);
        };
        let older = absent.filter(|(oldest, _)| *oldest < first);
        self.overtaken = older.map_or(Vec::new(), |(_, needed)| needed);
        let group = &mut self.groups[index];
        let mut batch = Vec::with_capacity(count);
        while batch.len() < count
            && let Some((_, item)) = group.items.pop_first()
        {
            batch.push(item.value);
        }
        self.shrink(index, batch.len());
        Decision::Ready(batch)
    }

    /// Takes the requests of the batch that the one given out last has overtaken, as not all of them
    /// were here.
    pub fn take_overtaken(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.overtaken)
    }

    fn shrink(&mut self, group: usize, by: usize) {
        self.len -= by;
        if self.groups[group].items.is_empty() {
            self.groups.swap_remove(group);
        }
    }
}

impl<T> Group<T> {
    /// Returns the oldest `count` requests.
    fn first(&self, count: usize) -> impl Iterator<Item = &T> {
        self.items.values().take(count).map(|item| &item.value)
    }
}

impl Policy {
    /// Returns how many of the oldest requests make the next batch, or when to ask again.
    fn choose<T>(&self, group: &Group<T>, now: Instant, hurry: bool) -> Result<usize, Instant> {
        if !self.join {
            return Ok(1);
        }
        let (mut count, mut rows, mut preferred) = (0, 0, None);
        let mut full = false;
        for item in group.items.values() {
            if count > 0 && rows + item.rows > self.max_rows {
                full = true;
                break;
            }
            count += 1;
            rows += item.rows;
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
