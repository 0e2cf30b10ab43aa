//! Memory that a copy on its way may touch, kept until the copy is done.

use std::{mem, sync::Arc};

use super::{Event, Failure, Stream};

/// Memory that copies on a stream may still touch. Dropping it waits for them.
#[derive(Debug)]
pub(in super::super) struct InFlight<T> {
    /// `None` once it was taken out.
    memory: Option<T>,
    stream: Arc<Stream>,
    /// Behind the copies; `None` where it could not be recorded.
    done: Option<Event>,
}

impl<T> InFlight<T> {
    pub(in super::super) fn launch(
        stream: &Arc<Stream>,
        memory: T,
        copy: impl FnOnce(&mut T) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let mut flight = Self {
            memory: Some(memory),
            stream: Arc::clone(stream),
            done: None,
        };
        if let Some(memory) = &mut flight.memory {
            copy(memory)?;
        }
        flight.done = Some(stream.record(false)?);
        Ok(flight)
    }

    /// Waits for the copies, and gives the memory back.
    pub(in super::super) fn land(mut self) -> Result<T, Failure> {
        self.wait()?;
        Ok(self.memory.take().expect("memory is taken out once, here"))
    }

    fn wait(&self) -> Result<(), Failure> {
        let waited = match &self.done {
            Some(done) => done.synchronize(),
            None => self.stream.synchronize(),
        };
        waited.inspect_err(|failure| self.stream.broken().note(failure))
    }
}

impl<T> Drop for InFlight<T> {
    fn drop(&mut self) {
        if self.memory.is_some() && self.wait().is_err() {
            // Whether the device still touches it cannot be known, so nobody else may have it.
            mem::forget(self.memory.take());
        }
    }
}
