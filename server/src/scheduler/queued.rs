//! A request in the queue, with its tensors or without.

use std::cell::Cell;

use super::Ticket;
use crate::{
    parking::{Cargo, Parking, Stowed},
    request::Job,
};

/// A request in the queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) ticket: Ticket,
    /// Without inputs and permit while they are not here.
    pub(super) job: Box<Job>,
    tensors: Tensors,
    /// A batch would have run, if this had been here.
    missed: Cell<bool>,
}

/// Where the inputs are.
#[derive(Debug)]
enum Tensors {
    /// In the job.
    Here,
    /// In the hands of who moves them.
    Moving,
    /// On disk.
    Away(Stowed),
}

impl Queued {
    pub(super) fn new(ticket: Ticket, job: Box<Job>) -> Self {
        let tensors = Tensors::Here;
        Self {
            ticket,
            job,
            tensors,
            missed: Cell::new(false),
        }
    }

    /// Returns whether it can run, for a batch that is due. If not, that is noted until it is
    /// [put](Self::put) back: whoever asked may sleep until then.
    pub(super) fn is_here(&self) -> bool {
        let is_here = matches!(self.tensors, Tensors::Here);
        if !is_here {
            self.missed.set(true);
        }
        is_here
    }

    /// Takes the inputs out of memory's hands, where they are there.
    pub(super) fn lift(&mut self) -> Option<Cargo> {
        if !matches!(self.tensors, Tensors::Here) {
            return None;
        }
        self.tensors = Tensors::Moving;
        Some(Cargo {
            inputs: std::mem::take(&mut self.job.inputs),
            permit: self.job.permit.take(),
        })
    }

    /// Takes what is on disk, to bring it back.
    pub(super) fn fetch(&mut self) -> Option<Stowed> {
        match std::mem::replace(&mut self.tensors, Tensors::Moving) {
            Tensors::Away(stowed) => Some(stowed),
            otherwise => {
                self.tensors = otherwise;
                None
            }
        }
    }

    /// Notes that the inputs are on disk.
    pub(super) fn stow(&mut self, stowed: Stowed) {
        self.tensors = Tensors::Away(stowed);
    }

    /// Puts the inputs back, after `parking` on disk, if it was there. Returns whether a batch has missed
    /// them.
    pub(super) fn put(&mut self, cargo: Cargo, parking: Option<Parking>) -> bool {
        self.tensors = Tensors::Here;
        self.job.inputs = cargo.inputs;
        self.job.permit = cargo.permit;
        let parked = &mut self.job.timings.parked;
        *parked = parking.map(|parking| parking.after(*parked)).or(*parked);
        self.missed.take()
    }
}
