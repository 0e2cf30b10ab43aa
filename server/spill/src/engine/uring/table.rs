//! The operations that the kernel holds, from submission to completion.
//!
//! Invariant: an operation, and with it its memory, leaves the table only when its completion has
//! been seen, when the kernel never saw it, or to be leaked.

use crate::engine::Op;

/// A fixed number of places for operations.
#[derive(Debug)]
pub(super) struct Table {
    places: Vec<Option<Op>>,
    free: Vec<usize>,
}

impl Table {
    pub(super) fn new(depth: usize) -> Self {
        Self {
            places: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Keeps an operation and names its place, or returns it where all places are taken.
    pub(super) fn insert(&mut self, op: Op) -> Result<u64, Op> {
        match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(op);
                Ok(place as u64)
            }
            None => Err(op),
        }
    }

    pub(super) fn take(&mut self, place: u64) -> Option<Op> {
        let place = usize::try_from(place).ok()?;
        let op = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(op)
    }

    /// Takes all operations out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Op> {
        (0..self.places.len() as u64).filter_map(|place| self.take(place))
    }
}
