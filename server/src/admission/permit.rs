//! The right to hold some bytes of a budget.

use std::sync::Arc;

use super::{Budget, Error, Refusal};

/// Bytes of a [`Budget`], given back when dropped.
#[derive(Debug)]
#[must_use = "the bytes go back to the budget when the permit is dropped"]
pub struct Permit {
    budget: Budget,
    bytes: u64,
}

impl Permit {
    /// Wraps bytes that the ledger has accounted for.
    pub(super) fn new(budget: Budget, bytes: u64) -> Self {
        Self { budget, bytes }
    }

    /// Returns how many bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Moves `bytes`, or all that there are if fewer, into a permit of their own.
    pub fn split(&mut self, bytes: u64) -> Permit {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self::new(self.budget.clone(), bytes)
    }

    /// Takes `bytes` more of the budget, if they fit at once and nobody is in line.
    ///
    /// # Errors
    /// As [`Budget::try_reserve`]; it holds what it held.
    pub fn try_grow(&mut self, bytes: u64) -> Result<(), Error> {
        if bytes > 0 {
            let more = self.budget.try_reserve(bytes)?;
            self.merge(more);
        }
        Ok(())
    }

    /// Counts its message as refused, for want of more.
    pub fn count(&self, refusal: Refusal) {
        self.budget.count(refusal);
    }

    /// Makes it hold `bytes`: gives back what is more, or takes what is less, even if that overdraws the
    /// budget.
    pub fn hold(&mut self, bytes: u64) {
        match bytes.checked_sub(self.bytes) {
            None => drop(self.split(self.bytes - bytes)),
            Some(0) => {}
            Some(lacking) => {
                let more = self.budget.charge(lacking);
                self.merge(more);
            }
        }
    }

    /// Takes over the bytes of `other`.
    ///
    /// # Panics
    /// If `other` is of another budget.
    pub fn merge(&mut self, mut other: Permit) {
        assert!(
            Arc::ptr_eq(&self.budget.shared, &other.budget.shared),
            "permits of two budgets cannot be one"
        );
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}
