//! The store for callers without a runtime.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use crate::{
    error::{Error, Lost, Refused},
    memory::HostBuf,
};

use super::{Class, Data, Parked, Store};

/// The store's calls, each of which returns when what it is for is done. They put the calling thread
/// to sleep, so they are not for threads of an async runtime.
#[derive(Debug, Clone, Copy)]
pub struct Blocking<'a>(pub(super) &'a Store);

impl Blocking<'_> {
    /// Offloads a tensor and waits until it is written. One that cannot be written is parked in
    /// memory; [`Parked::settled`] tells why.
    ///
    /// # Errors
    /// As [`Store::offload`].
    pub fn offload_and_wait(&self, data: impl Into<Data>) -> Result<Parked, Refused> {
        let parked = self.0.offload(data)?;
        // What could not be written is as safe as what could.
        let _ = block_on(parked.settled());
        Ok(parked)
    }

    /// Brings a tensor back.
    ///
    /// # Errors
    /// As [`Store::onboard`].
    pub fn onboard(&self, parked: Parked) -> Result<HostBuf, Lost> {
        block_on(self.0.onboard(parked, Class::Demand))
    }

    /// Reads a tensor, which stays parked.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read(&self, parked: &Parked) -> Result<HostBuf, Error> {
        block_on(self.0.read(parked, Class::Demand))
    }

    /// Waits until all that was accepted before is written or failed.
    pub fn synchronize(&self) {
        block_on(self.0.synchronize());
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on the calling thread, which sleeps meanwhile.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
