//! When a message that is expected does not come: it stands still, crawls, or its call does not end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tonic::Status;

/// Bytes that are to come within the progress timeout, if the message has so many left, and the part of
/// it that is: else a byte now and then would hold the memory of a large one for ever.
const LEAST_BYTES: u64 = 16 * 1024;
const LEAST_PART: u64 = 32;

/// What has come of what is expected.
#[derive(Debug)]
pub(super) struct Progress {
    timer: Timer,
    /// Bytes that came since it runs.
    moved: u64,
}

impl Progress {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timer: Timer::new(timeout),
            moved: 0,
        }
    }

    /// Gives what is expected all of its time again.
    pub(super) fn restart(&mut self) {
        self.timer.stop();
        self.moved = 0;
    }

    /// Notes that bytes came of a message of `length`.
    pub(super) fn moved(&mut self, bytes: usize, length: u64) {
        self.moved += bytes as u64;
        let is_enough = self.moved >= LEAST_BYTES.max(length / LEAST_PART);
        // Where the time is up and the call goes on, nobody had looked meanwhile.
        if is_enough || self.timer.is_up() {
            self.restart();
        }
    }

    /// Returns how the call ends once too little has come for too long.
    pub(super) fn poll(&mut self, is_mid_message: bool, cx: &mut Context<'_>) -> Poll<Status> {
        ready!(self.timer.poll(cx));
        let what = match self.moved {
            _ if !is_mid_message => "the call did not end behind its message",
            0 => "no byte of a message arrived",
            _ => "too few bytes of a message arrived",
        };
        let timeout = self.timer.timeout;
        Poll::Ready(Status::deadline_exceeded(format!(
            "{what} for {timeout:?} (admission.progress_timeout)"
        )))
    }
}

/// Runs from its first poll until it is stopped.
#[derive(Debug)]
pub(super) struct Timer {
    timeout: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    runs: bool,
}

impl Timer {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            // Beyond any call, and within what a clock can hold.
            timeout: timeout.min(Duration::from_secs(1 << 30)),
            sleep: None,
            runs: false,
        }
    }

    pub(super) fn stop(&mut self) {
        self.runs = false;
    }

    /// Returns whether it runs, and the time is up.
    fn is_up(&self) -> bool {
        let deadline = self.sleep.as_ref().map(|sleep| sleep.deadline());
        self.runs && deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Resolves when the time is up since the first call after it was stopped.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.timeout;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if !self.runs {
            sleep.as_mut().reset(Instant::now() + timeout);
            self.runs = true;
        }
        sleep.as_mut().poll(cx)
    }
}
