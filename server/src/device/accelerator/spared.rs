//! Tensors that are not freed where that would end the process.
//!
//! CUDA's allocator throws when memory that several streams used is freed on a broken device, from
//! destructors that may not throw. Invariant: once a device is known to be broken, nothing that is
//! spared is dropped; it goes with the process, which is of no more use for the device anyway.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::ffi::Failure;

/// Whether a device is known to be broken, from the first error that tells so.
#[derive(Debug, Clone, Default)]
pub(super) struct Broken(Arc<AtomicBool>);

impl Broken {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Takes note of what a failure tells.
    pub(super) fn note(&self, failure: &Failure) {
        if matches!(failure, Failure::Final(_)) {
            self.set();
        }
    }

    pub(super) fn spare<T>(&self, tensors: Vec<T>) -> Spared<T> {
        Spared {
            tensors,
            broken: self.clone(),
        }
    }
}

/// Tensors that are forgotten, instead of freed, where their device is broken.
#[derive(Debug)]
pub(super) struct Spared<T> {
    tensors: Vec<T>,
    broken: Broken,
}

impl<T> Spared<T> {
    pub(super) fn take(mut self) -> Vec<T> {
        mem::take(&mut self.tensors)
    }
}

impl<T> Drop for Spared<T> {
    fn drop(&mut self) {
        if self.broken.0.load(Ordering::Acquire) {
            mem::forget(mem::take(&mut self.tensors));
        }
    }
}
