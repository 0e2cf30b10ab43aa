//! Everything that is in flight, and the records of everything that was.
//!
//! Invariant: a request is in `open` from launch to landing, and has a record from then on, so
//! that offered = records + open at any time.

use std::{
    collections::HashMap,
    panic,
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinError, JoinSet},
    time,
};

use super::{End, Finished, Setup};
use crate::{
    clock,
    pacer::Arrival,
    record::{Outcome, Record},
    target::{Answer, Place, Shot, Target},
};

/// Requests in flight towards a target.
#[derive(Debug)]
pub struct Flight<T> {
    setup: Setup<T>,
    tasks: JoinSet<Landed>,
    open: HashMap<u64, Waiting>,
    records: Vec<Record>,
    offered: u64,
    /// Failures since the last correct answer.
    failures: u64,
}

#[derive(Debug)]
struct Waiting {
    intended: Duration,
    slot: usize,
}

/// A request that has ended.
#[derive(Debug)]
struct Landed {
    number: u64,
    /// When its task had its first turn and handed it to the target.
    submitted: Instant,
    answer: Answer,
}

impl<T: Target> Flight<T> {
    /// Starts with nothing in flight.
    pub fn new(setup: Setup<T>) -> Self {
        Self {
            setup,
            tasks: JoinSet::new(),
            open: HashMap::new(),
            records: Vec::new(),
            offered: 0,
            failures: 0,
        }
    }

    /// Returns the time since the start.
    pub fn elapsed(&self) -> Duration {
        clock::now().saturating_duration_since(self.setup.origin)
    }

    /// Returns whether another request may be launched.
    pub fn has_room(&self) -> bool {
        self.open.len() < self.setup.limits.max_in_flight
    }

    /// Returns how many requests are in flight.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns how many requests have failed since the last correct answer. Those that timed out
    /// are left aside: they bring no more than their timeout lets them.
    pub fn failures_in_a_row(&self) -> u64 {
        self.failures
    }

    /// Sends a request on a task of its own. `slot` comes back when it lands.
    pub fn launch(&mut self, arrival: Arrival, slot: usize, place: Option<Place>) {
        let Arrival { number, intended } = arrival;
        let target = self.setup.target.clone();
        let timeout = self.setup.limits.timeout;
        self.offered += 1;
        self.open.insert(number, Waiting { intended, slot });
        self.tasks.spawn(async move {
            let submitted = clock::now();
            let answer = match time::timeout(timeout, target.send(Shot { number, place })).await {
                Ok(answer) => rename_late(answer, submitted + timeout),
                Err(_) => Answer {
                    sent: None,
                    first: None,
                    done: clock::now(),
                    outcome: Outcome::TimedOut,
                    stages: None,
                },
            };
            Landed {
                number,
                submitted,
                answer,
            }
        });
        self.publish();
    }

    /// Records a request that cannot be sent because too many are in flight.
    pub fn refuse(&mut self, arrival: Arrival) {
        self.offered += 1;
        self.records.push(Record {
            number: arrival.number,
            intended: arrival.intended,
            submitted: None,
            sent: None,
            first: None,
            done: self.elapsed(),
            outcome: Outcome::NotSent,
            stages: None,
        });
        self.publish();
    }

    /// Waits for a request to end and returns its slot, or `None` when nothing is in flight.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn land(&mut self) -> Option<usize> {
        let landed = self.tasks.join_next().await?;
        self.settle(landed)
    }

    /// Records all requests that have ended already.
    pub fn land_ready(&mut self) {
        while let Some(landed) = self.tasks.try_join_next() {
            self.settle(landed);
        }
    }

    /// Waits up to the grace period for what is in flight and gives the rest up as unfinished.
    pub async fn finish(mut self, end: End) -> Finished {
        let arrivals_ended = self.elapsed();
        let grace = self.setup.limits.grace;
        // Running out of grace is no failure: what is still open is recorded below.
        let _in_time = time::timeout(grace, async { while self.land().await.is_some() {} }).await;
        let now = self.elapsed();
        self.tasks.abort_all();
        for (number, waiting) in self.open.drain() {
            self.records.push(Record {
                number,
                intended: waiting.intended,
                submitted: None,
                sent: None,
                first: None,
                done: now,
                outcome: Outcome::Unfinished,
                stages: None,
            });
        }
        self.publish();
        Finished {
            records: self.records,
            offered: self.offered,
            arrivals_ended,
            end,
        }
    }

    fn settle(&mut self, landed: Result<Landed, JoinError>) -> Option<usize> {
        let Landed {
            number,
            submitted,
            answer,
        } = match landed {
            Ok(landed) => landed,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => panic::resume_unwind(payload),
                // Nothing cancels a task but `finish`, which does not come here.
                Err(_) => return None,
            },
        };
        let waiting = self.open.remove(&number)?;
        match answer.outcome {
            Outcome::Ok => self.failures = 0,
            Outcome::Failed(_) => self.failures += 1,
            Outcome::TimedOut | Outcome::Unfinished | Outcome::NotSent => {}
        }
        let offset = |at: Instant| at.saturating_duration_since(self.setup.origin);
        self.records.push(Record {
            number,
            intended: waiting.intended,
            submitted: Some(offset(submitted)),
            sent: answer.sent.map(offset),
            first: answer.first.map(offset),
            done: offset(answer.done),
            outcome: answer.outcome,
            stages: answer.stages,
        });
        let response = self.records.last().map(Record::response);
        self.setup.progress.send_modify(|progress| {
            progress.landed(answer.outcome, response.unwrap_or_default());
        });
        self.publish();
        Some(waiting.slot)
    }

    fn publish(&self) {
        let (offered, in_flight) = (self.offered, self.open.len());
        self.setup.progress.send_modify(|progress| {
            progress.offered = offered;
            progress.in_flight = in_flight;
        });
    }
}

/// Returns `answer`, with an error that came at the deadline or later as what it is. Servers know
/// the deadline too and have several names for it, CANCELLED among them.
fn rename_late(mut answer: Answer, deadline: Instant) -> Answer {
    if matches!(answer.outcome, Outcome::Failed(_)) && answer.done >= deadline {
        answer.outcome = Outcome::TimedOut;
    }
    answer
}
