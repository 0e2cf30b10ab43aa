//! Modules that threads may share.
//!
//! Invariant: passes of a [`PureModule`] change nothing in it.

#![expect(unsafe_code, reason = "threads share what libtorch does not write to")]

use super::{Argument, Output, RawModule, Weights};

/// A module whose passes change nothing in it, which threads may share.
#[derive(Debug)]
pub(in crate::torch) struct PureModule(RawModule);

// SAFETY: the only calls through a shared reference are a pass and a count of bytes, which reads what
// no pass writes to. libtorch makes the plan of a graph under a lock and keeps what a pass computes
// in a state of its own; no pass writes to an attribute of the module or to a constant of its graph.
unsafe impl Sync for PureModule {}

impl PureModule {
    /// Takes a module that is pure.
    ///
    /// # Errors
    /// It is not, and comes back.
    pub(in crate::torch) fn new(module: RawModule) -> Result<Self, RawModule> {
        match module.is_pure() {
            true => Ok(Self(module)),
            false => Err(module),
        }
    }

    pub(in crate::torch) fn forward(&self, arguments: &[Argument]) -> Result<Vec<Output>, String> {
        self.0.pass(arguments)
    }

    pub(in crate::torch) fn weights(&self) -> Weights {
        self.0.weights()
    }
}
