//! What can go wrong with a tensor on its way to the disk and back.
//!
//! Invariant: no error carries a tensor's bytes or addresses, so that all of them may be logged.

use std::{fmt, io, path::Path, sync::Arc};

use crate::{
    engine::{Broken, Direction},
    store::{Data, Parked},
};

/// Why the store did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No room on the disks.
    #[error(
        "{asked_bytes} bytes do not fit the {left_bytes} that {what} leaves; onboard parked tensors or give the store more"
    )]
    Full {
        /// What is used up.
        what: Limit,
        /// What was asked for.
        asked_bytes: u64,
        /// What is left.
        left_bytes: u64,
    },
    /// More than the store takes in one call, however empty it is.
    #[error(
        "{asked} in one call never fit the {limit} of {key}; offload less at once or raise {key}"
    )]
    TooLarge {
        /// What was asked for: bytes, or tensors.
        asked: u64,
        /// How many the store takes.
        limit: u64,
        /// The setting that says so.
        key: &'static str,
    },
    /// The disks do not keep up.
    #[error(
        "{queued_bytes} bytes in {queued_items} tensors wait to be written already; offload slower or raise the write queue's limits"
    )]
    QueueFull {
        /// Bytes that wait.
        queued_bytes: u64,
        /// Tensors that wait.
        queued_items: usize,
    },
    /// A disk failed.
    #[error("cannot {} a segment in {}", verb(*.op), dir.display())]
    Io {
        /// Which way the bytes went.
        op: Direction,
        /// The directory.
        dir: Arc<Path>,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// What came back is not what was written, twice.
    #[error("a tensor came back damaged from {}; check the disk", dir.display())]
    Corrupt {
        /// The directory.
        dir: Arc<Path>,
    },
    /// No disk is in use any more.
    #[error("every directory is out of use: {reason}; mend the disk and start again")]
    Disabled {
        /// What put the last one out of use.
        reason: Arc<str>,
    },
    /// The tensor was taken back or dropped first.
    #[error("the tensor was taken back before")]
    Withdrawn,
    /// The store takes nothing more.
    #[error("the store is closed")]
    Closed,
}

fn verb(direction: Direction) -> &'static str {
    match direction {
        Direction::Read => "read",
        Direction::Write => "write",
    }
}

impl Error {
    /// Returns a short name for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Full {
                what: Limit::Quota, ..
            } => "quota",
            Self::Full {
                what: Limit::Device,
                ..
            } => "full",
            Self::TooLarge { .. } => "too_large",
            Self::QueueFull { .. } => "queue_full",
            Self::Io { .. } => "io",
            Self::Corrupt { .. } => "corrupt",
            Self::Disabled { .. } => "disabled",
            Self::Withdrawn => "withdrawn",
            Self::Closed => "closed",
        }
    }

    /// Returns whether the same call may succeed later: [`Full`](Self::Full) and
    /// [`QueueFull`](Self::QueueFull) pass, [`TooLarge`](Self::TooLarge) does not, nor does the
    /// failure of a disk whose engine broke down.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::QueueFull { .. } => true,
            Self::Io { source, .. } => !Broken::is(source),
            Self::TooLarge { .. }
            | Self::Corrupt { .. }
            | Self::Disabled { .. }
            | Self::Withdrawn
            | Self::Closed => false,
        }
    }
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The store's own capacity.
    Quota,
    /// The file system.
    Device,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quota => "the store's capacity",
            Self::Device => "the file system",
        })
    }
}

/// A tensor that was not accepted, and why.
#[derive(Debug, thiserror::Error)]
#[error("the tensor was not accepted")]
pub struct Refused {
    /// Why.
    #[source]
    pub error: Error,
    /// The tensor, untouched.
    pub data: Data,
}

/// A tensor that did not come back, and why.
#[derive(Debug, thiserror::Error)]
#[error("the tensor did not come back")]
pub struct Lost {
    /// Why.
    #[source]
    pub error: Error,
    /// The tensor where it was, if trying again can help.
    pub parked: Option<Parked>,
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(&'static str),
    /// A directory cannot be used.
    #[error("cannot use {} as a spill directory", dir.display())]
    Dir {
        /// The directory.
        dir: Arc<Path>,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No thread, no key.
    #[error("cannot start the store")]
    Start(#[source] io::Error),
}
