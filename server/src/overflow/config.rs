//! The section `[spill]` of the configuration.

use std::{path::PathBuf, str::FromStr};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use forebay_spill::{self as spill, Choice};

/// Where what overflows memory goes, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// One folder on each disk. None, the default, means that nothing is spilled.
    pub dirs: Vec<PathBuf>,
    /// Bytes on all disks together. Defaults to 64 GiB.
    pub capacity: ByteSize,
    /// Bytes that are left free on each disk. Defaults to 1 GiB.
    pub min_free: ByteSize,
    /// Percent of `admission.host_bytes` above which requests and unread outputs are parked, those
    /// first that are needed last. Defaults to 75.
    pub high_percent: u8,
    /// Percent of it below which requests come back before it is their turn. Defaults to 50.
    pub low_percent: u8,
    /// Smaller tensors stay in memory. Defaults to 64 KiB.
    pub min_tensor: ByteSize,
    /// `auto`, the default, `io_uring` or `psync`.
    pub engine: String,
    /// Whether tensors are encrypted on disk, with a key that only this process has. Defaults to no.
    pub encrypt: bool,
    /// Whether a folder may lie in memory itself (tmpfs), for tests. Defaults to no.
    pub allow_tmpfs: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dirs: Vec::new(),
            capacity: ByteSize::gib(64),
            min_free: ByteSize::gib(1),
            high_percent: 75,
            low_percent: 50,
            min_tensor: ByteSize::kib(64),
            engine: "auto".to_owned(),
            encrypt: false,
            allow_tmpfs: false,
        }
    }
}

impl Config {
    /// Returns every fault, each naming its key; none if the section is usable.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.low_percent > self.high_percent || self.high_percent > 100 {
            faults.push(format!(
                "spill.low_percent is {} and spill.high_percent {}; \
                 the first may not be greater than the second, nor the second than 100",
                self.low_percent, self.high_percent
            ));
        }
        if let Err(error) = Choice::from_str(&self.engine) {
            faults.push(format!("spill.engine: {error}"));
        }
        if self.dirs.is_empty() {
            return faults;
        }
        if let Err(error) = self.store(0).validate() {
            faults.push(format!("spill: {error}"));
        }
        faults
    }

    /// Returns what the store is opened with, where messages are of up to `max_message_bytes`.
    pub(super) fn store(&self, max_message_bytes: u64) -> spill::Config {
        let capacity = self.capacity.as_u64();
        let mut store = spill::Config::new(self.dirs.clone());
        store.capacity_bytes = capacity;
        store.min_free_bytes = self.min_free.as_u64();
        // The tensors of a message are parked together. It costs no memory: what waits to be written is
        // held by the budget all the while.
        store.write_queue_bytes = store.write_queue_bytes.max(max_message_bytes);
        // A small store need not take a whole segment of the usual size.
        store.segment_bytes = store.segment_bytes.min(capacity.next_multiple_of(1 << 20));
        store.engine = Choice::from_str(&self.engine).unwrap_or_default();
        store.encrypt = self.encrypt;
        store.allow_tmpfs = self.allow_tmpfs;
        store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_have_no_fault() {
        assert_eq!(Config::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn the_write_queue_takes_the_longest_message() {
        let queue =
            |max_message_bytes| Config::default().store(max_message_bytes).write_queue_bytes;
        assert_eq!((queue(1 << 20), queue(256 << 20)), (64 << 20, 256 << 20));
    }

    #[test]
    fn all_faults_are_told() {
        let config = Config {
            dirs: vec!["/spill".into()],
            low_percent: 80,
            engine: "floppy".to_owned(),
            capacity: ByteSize::b(1),
            ..Config::default()
        };
        let faults = config.validate();
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}
