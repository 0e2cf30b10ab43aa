//! An eventfd that wakes the driving thread, whether it sleeps in the ring or outside of it.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::engine::Alarm;

#[derive(Debug)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Returns what rings it. A counter that is full rings already, so a failed write is none.
    pub(super) fn alarm(&self) -> Alarm {
        let fd = Arc::clone(&self.0);
        Alarm::new(move || {
            let _ = rustix::io::write(&*fd, &1_u64.to_ne_bytes());
        })
    }

    /// Returns whether it rang since it was last asked.
    pub(super) fn silence(&self) -> bool {
        rustix::io::read(&*self.0, &mut [0; 8]).is_ok()
    }

    /// Sleeps until it rings, a signal comes or `timeout` passes. Returns whether it rang.
    pub(super) fn sleep(&self, timeout: Option<Duration>) -> bool {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut fds = [PollFd::new(&*self.0, PollFlags::IN)];
        // The outcome is the same for an error and a timeout: the read tells whether it rang.
        let _ = poll(&mut fds, timeout.as_ref());
        self.silence()
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
