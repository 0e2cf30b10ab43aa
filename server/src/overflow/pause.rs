//! When parking goes on, after the store took no more.

use std::time::Duration;

use forebay_spill::Error;
use tokio::time::Instant;

/// How long nothing is parked after the store was full or failed.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Whether requests may be parked.
#[derive(Debug, Default)]
pub(super) enum Pause {
    /// They may.
    #[default]
    Over,
    /// Not before a write that goes on has ended.
    Writing,
    /// Not before this time.
    Until(Instant),
    /// Never again: no disk is left.
    ForGood,
}

impl Pause {
    /// Notes that the store refused a request or could not write it. `writes` that go on make room
    /// without a timer, once one has [ended](Self::wrote).
    pub(super) fn after(&mut self, error: &Error, writes: bool) {
        *self = match error {
            Error::QueueFull { .. } if writes => Self::Writing,
            Error::Full { .. } | Error::QueueFull { .. } => {
                tracing::debug!(%error, "requests stay in memory for now");
                Self::Until(Instant::now() + BACK_OFF)
            }
            Error::Disabled { .. } | Error::Closed => {
                if !matches!(self, Self::ForGood) {
                    tracing::error!(%error, "requests stay in memory from here on");
                }
                Self::ForGood
            }
            _ => {
                tracing::warn!(%error, "requests stay in memory for now");
                Self::Until(Instant::now() + BACK_OFF)
            }
        };
    }

    /// Notes that a write has ended.
    pub(super) fn wrote(&mut self) {
        if matches!(self, Self::Writing) {
            *self = Self::Over;
        }
    }

    /// Returns whether the store takes requests, or will as soon as it has written.
    pub(super) fn makes_room(&self) -> bool {
        matches!(self, Self::Over | Self::Writing)
    }

    /// Returns whether requests may be parked now.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// Waits until it is over; for ever where there is nothing to wait for.
    pub(super) async fn wait(&mut self) {
        match self {
            Self::Until(instant) => {
                tokio::time::sleep_until(*instant).await;
                *self = Self::Over;
            }
            Self::Over | Self::Writing | Self::ForGood => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE_FULL: Error = Error::QueueFull {
        queued_bytes: 1,
        queued_items: 1,
    };

    #[test]
    fn a_full_queue_is_left_alone_until_a_write_has_ended() {
        let mut pause = Pause::default();
        pause.after(&QUEUE_FULL, true);
        assert!(!pause.is_over() && pause.makes_room());
        pause.wrote();
        assert!(pause.is_over());
    }

    #[test]
    fn a_write_that_ends_shortens_no_other_pause() {
        for (error, writes) in [(QUEUE_FULL, false), (Error::Closed, true)] {
            let mut pause = Pause::default();
            pause.after(&error, writes);
            pause.wrote();
            assert!(!pause.is_over() && !pause.makes_room(), "{error}");
        }
    }
}
