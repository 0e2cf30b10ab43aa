//! How many requests came to which end.

use std::collections::BTreeMap;

use crate::record::{Outcome, Record};

/// Requests by outcome.
///
/// Invariant: a checked value adds up: offered = ok + failed + timed out + unfinished + not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that the load offered.
    pub offered: u64,
    /// Answered correctly.
    pub ok: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Not answered in the time allowed.
    pub timed_out: u64,
    /// Not answered when the run ended.
    pub unfinished: u64,
    /// Not sent, because too many were in flight.
    pub not_sent: u64,
    /// Failures by the name of their code.
    pub failures: BTreeMap<String, u64>,
}

/// Requests were lost or counted twice: a fault of the generator itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{offered} requests were offered but {recorded} were recorded; this is a fault in the load generator"
)]
pub struct Unaccounted {
    /// Requests offered.
    pub offered: u64,
    /// Requests recorded.
    pub recorded: u64,
}

impl Counts {
    /// Counts `records`.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut counts = Self::default();
        for record in records {
            counts.offered += 1;
            match record.outcome {
                Outcome::Ok => counts.ok += 1,
                Outcome::Failed(code) => {
                    counts.failed += 1;
                    *counts.failures.entry(code.to_string()).or_default() += 1;
                }
                Outcome::TimedOut => counts.timed_out += 1,
                Outcome::Unfinished => counts.unfinished += 1,
                Outcome::NotSent => counts.not_sent += 1,
            }
        }
        counts
    }

    /// Checks that the outcomes add up to `offered`, which was counted apart.
    ///
    /// # Errors
    /// They do not.
    pub fn check(&self, offered: u64) -> Result<(), Unaccounted> {
        let recorded = self.ok + self.failed + self.timed_out + self.unfinished + self.not_sent;
        if recorded == offered && self.offered == offered {
            Ok(())
        } else {
            Err(Unaccounted { offered, recorded })
        }
    }

    /// Returns the requests that were sent.
    pub fn sent(&self) -> u64 {
        self.offered - self.not_sent
    }
}
