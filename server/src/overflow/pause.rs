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
    /// Not before this time.
    Until(Instant),
    /// Never again: no disk is left.
    ForGood,
}

impl Pause {
    /// Notes that the store refused a request or could not write it; `writes` that go on make room
    /// without a timer.
    pub(super) fn after(&mut self, error: &Error, writes: bool) {
        *self = match error {
            Error::QueueFull { .. } if writes => Self::Over,
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
            Self::Over | Self::ForGood => std::future::pending().await,
        }
    }
}
