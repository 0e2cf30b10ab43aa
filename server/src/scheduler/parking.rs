//! What parks the tensors of queued requests sees of the queue.
//!
//! Invariant: a request runs only with its tensors in memory, and whatever is in somebody's hands when
//! the request leaves the queue is dropped there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Queue, Scheduler, State, Ticket, queued::Queued, whereabouts::Place};
use crate::{
    error::Error,
    parking::{Cargo, Limits, Parking, Signal, Stowed},
    request::Job,
};

/// Who parks requests, and what of them.
#[derive(Debug)]
pub(super) struct Overflow {
    limits: Limits,
    signal: Arc<Signal>,
}

impl Scheduler {
    /// Lets tensors within `limits` be parked by who listens to `signal`, and has no more than
    /// `max_bytes`, or one request, brought back for one batch. Tensors of sequences are never parked.
    /// Call it once, before the first request.
    pub fn allow_parking(&self, limits: Limits, max_bytes: u64, signal: Arc<Signal>) {
        // The first one is the one.
        let _known = self.overflow.set(Overflow { limits, signal });
        if let Queue::Batches(batcher) = &mut self.lock().queue {
            batcher.limit(max_bytes);
        }
    }

    /// Returns the request that runs last of those in memory that no instance waits for, and how long it
    /// is until then as far as that is known; `None` where all are within `horizon` bytes of the head.
    pub fn last_here(&self, horizon: u64) -> Option<(Ticket, Option<Duration>)> {
        let state = self.lock();
        let ticket = state.whereabouts.last_here(horizon)?;
        // Those behind it are on disk, but for a batch. Nobody knows when a model comes back whose weights
        // are not here.
        let place = state.queue.len() - state.whereabouts.away();
        let wait = state.pace.wait_of(place).filter(|_| !state.suspended);
        Some((ticket, wait))
    }

    /// Returns the requests on disk that are within `horizon` bytes of the head, the first in front.
    pub fn first_away(&self, horizon: u64) -> Vec<Ticket> {
        self.lock().whereabouts.first_away(horizon)
    }

    /// Returns how many requests are on disk.
    pub fn parked(&self) -> usize {
        self.lock().whereabouts.away()
    }

    /// Returns whether an instance waits for requests that are not in memory.
    pub fn is_stalled(&self) -> bool {
        self.lock().stalled.is_some()
    }

    /// Returns how long instances have waited for requests that were not in memory, up to `now`.
    pub fn stalls(&self, now: Instant) -> Duration {
        let state = self.lock();
        let open = state.stalled;
        state.stalls + open.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Takes the tensors of a request out of memory's hands. It does not run until they are
    /// [put back](Self::put), or [stowed](Self::stow) and fetched.
    pub fn lift(&self, ticket: Ticket) -> Option<Cargo> {
        self.with(ticket, |queued, place| {
            let cargo = queued.lift()?;
            *place = Place::Moving;
            Some(cargo)
        })?
    }

    /// Takes what of a request is on disk, to bring it back. One that nobody waits for at `now` leaves
    /// the queue instead.
    pub fn fetch(&self, ticket: Ticket, now: Instant) -> Option<Stowed> {
        let is_live = self.with(ticket, |queued, _| queued.job.is_live(now))?;
        if !is_live {
            let queued = self.take_out(ticket)?;
            // Its tensors go with it, unread.
            let _answered = queued.job.live(now);
            return None;
        }
        self.with(ticket, |queued, place| {
            let stowed = queued.fetch()?;
            *place = Place::Moving;
            Some(stowed)
        })?
    }

    /// Notes that the tensors of a request are on disk.
    pub fn stow(&self, ticket: Ticket, stowed: Stowed) {
        self.with(ticket, |queued, place| {
            queued.stow(stowed);
            *place = Place::Away;
        });
    }

    /// Puts the tensors of a request back, after `parking` on disk, if they were there. Wakes an instance
    /// where one has missed them.
    pub fn put(&self, ticket: Ticket, cargo: Cargo, parking: Option<Parking>) {
        let was_missed = self.with(ticket, |queued, place| {
            *place = Place::Here;
            queued.put(cargo, parking)
        });
        if was_missed == Some(true) {
            let wake = self.lock().wake();
            self.tell(wake);
        }
    }

    /// Takes a request out of the queue and answers it with `error`: its tensors are lost.
    pub fn lose(&self, ticket: Ticket, error: Error) {
        if let Some(queued) = self.take_out(ticket) {
            queued.job.reply.send(Err(error));
        }
    }

    fn take_out(&self, ticket: Ticket) -> Option<Queued> {
        let mut state = self.lock();
        let Queue::Batches(batcher) = &mut state.queue else {
            return None;
        };
        let queued = batcher.remove(ticket);
        state.whereabouts.remove(ticket);
        // Others have come nearer to the head.
        if state.whereabouts.any_away() {
            self.advanced();
        }
        // The next request may be the one to run, or there may be none left to wait for.
        self.changed.notify_all();
        queued
    }

    /// Returns how many bytes parking a job would free; 0 where it stays.
    pub(super) fn parkable_bytes(&self, job: &Job) -> u64 {
        let inputs = job.inputs.iter().flatten();
        let overflow = self.overflow.get();
        overflow.map_or(0, |overflow| overflow.limits.parkable(inputs))
    }

    /// Tells that the queue has moved.
    pub(super) fn advanced(&self) {
        if let Some(overflow) = self.overflow.get() {
            overflow.signal.moved.notify_one();
        }
    }

    /// Tells that there is something to park, where somebody looked for it.
    pub(super) fn queued(&self) {
        if let Some(overflow) = self.overflow.get() {
            overflow.signal.parkable();
        }
    }

    fn with<R>(
        &self,
        ticket: Ticket,
        change: impl FnOnce(&mut Queued, &mut Place) -> R,
    ) -> Option<R> {
        let mut state = self.lock();
        let State {
            queue, whereabouts, ..
        } = &mut *state;
        let Queue::Batches(batcher) = queue else {
            return None;
        };
        let queued = batcher.get_mut(ticket)?;
        let mut place = whereabouts.place(ticket)?;
        let result = change(queued, &mut place);
        whereabouts.set(ticket, place);
        Some(result)
    }
}

#[cfg(test)]
#[path = "parking_tests.rs"]
mod tests;
