//! The memory of a simulated device: how much of it is taken, and how much is kept for reuse.
//!
//! As allocators of real devices do, it keeps what is given back for requests of the same size, so
//! memory may run out for one size while another lies idle; [`Memory::reclaim`] frees what is idle.
//!
//! Invariant: taken and kept bytes together stay within the limit.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{super::Error, NAME, lock};

/// An account of the device's memory.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    limit: Option<usize>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// How many pieces of each size are kept.
    kept: BTreeMap<usize, usize>,
}

/// Memory that is taken. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Taken {
    bytes: usize,
    memory: Memory,
}

impl Memory {
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self {
            limit,
            state: Arc::default(),
        }
    }

    /// Takes `bytes`.
    pub(super) fn take(&self, bytes: usize) -> Result<Taken, Error> {
        let mut state = lock(&self.state);
        let (taken, kept) = (state.taken, state.kept_bytes());
        let same_size = state.kept.get_mut(&bytes).filter(|pieces| **pieces > 0);
        match (same_size, self.limit) {
            (Some(pieces), _) => *pieces -= 1,
            (None, Some(limit)) if taken + kept + bytes > limit => {
                return Err(Error::OutOfMemory {
                    device: NAME.to_owned(),
                    reason: format!(
                        "tried to allocate {bytes} bytes; of {limit}, {taken} are taken and {kept} kept for reuse"
                    ),
                });
            }
            _ => {}
        }
        state.taken += bytes;
        Ok(Taken {
            bytes,
            memory: self.clone(),
        })
    }

    /// Frees what is kept for reuse.
    pub(super) fn reclaim(&self) {
        lock(&self.state).kept.clear();
    }

    /// Returns how many bytes are taken.
    pub(super) fn taken(&self) -> usize {
        lock(&self.state).taken
    }
}

impl State {
    fn kept_bytes(&self) -> usize {
        self.kept.iter().map(|(bytes, pieces)| bytes * pieces).sum()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = lock(&self.memory.state);
        state.taken -= self.bytes;
        if self.memory.limit.is_some() {
            *state.kept.entry(self.bytes).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_serves_its_own_size_until_it_is_reclaimed() {
        let memory = Memory::new(Some(100));
        let first = memory.take(60).unwrap();
        let error = memory.take(50).unwrap_err();
        assert!(error.is_out_of_memory(), "{error}");
        drop(first);
        drop(memory.take(60).unwrap());
        assert!(memory.take(50).is_err());
        memory.reclaim();
        let second = memory.take(50).unwrap();
        assert_eq!(memory.taken(), 50);
        drop(second);
        assert_eq!(memory.taken(), 0);
    }
}
