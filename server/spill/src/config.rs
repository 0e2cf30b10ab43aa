//! What a store is made of and how much it may take.
//!
//! Invariant: every queue and every file has a bound here.

use std::path::PathBuf;

use crate::{engine::choose::Choice, error::OpenError, extent::BLOCK};

/// How many directories a store has at most.
pub(crate) const DIRS_MAX: usize = 64;
/// Every so many segments of a directory the next are twice as long: an engine has room for 1,024, or
/// for as many as the process may open where those are fewer.
const SEGMENTS_ALIKE: usize = 64;
/// How often they double until they hold the whole capacity, at most. Some more replace what goes bad.
const DOUBLINGS_MAX: u32 = 14;

/// What a store is made of and how much it may take.
#[derive(Debug, Clone)]
pub struct Config {
    /// One directory for each disk; tensors are striped over them.
    pub dirs: Vec<PathBuf>,
    /// Bytes of parked tensors, all directories together. Defaults to 64 GiB.
    pub capacity_bytes: u64,
    /// Bytes of a segment file, of which each is an open file. Defaults to 1 GiB. After each 64 of
    /// a directory the next are twice as long; none is longer than the capacity.
    pub segment_bytes: u64,
    /// Bytes of tensors that wait to be written, or that stay in memory because no disk took them. A
    /// larger one is taken when none waits. Defaults to 64 MiB.
    pub write_queue_bytes: u64,
    /// Tensors that wait to be written. Defaults to 16,384.
    pub write_queue_items: usize,
    /// What does the I/O. Defaults to what works best here.
    pub engine: Choice,
    /// Whether bytes are checked when they come back. Defaults to [`Checksum::Full`].
    pub checksum: Checksum,
    /// Whether bytes are encrypted on the disk, with a key that only this process ever has; it
    /// replaces the checksum. Defaults to no.
    pub encrypt: bool,
    /// Bytes that are left free on each file system. Defaults to 1 GiB.
    pub min_free_bytes: u64,
    /// Whether a directory may lie in memory itself (tmpfs), for tests. Defaults to no.
    pub allow_tmpfs: bool,
}

/// Whether bytes are checked when they come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// All of them, by CRC-32C.
    #[default]
    Full,
    /// Not at all.
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dirs: Vec::new(),
            capacity_bytes: 64 << 30,
            segment_bytes: 1 << 30,
            write_queue_bytes: 64 << 20,
            write_queue_items: 16_384,
            engine: Choice::Auto,
            checksum: Checksum::Full,
            encrypt: false,
            min_free_bytes: 1 << 30,
            allow_tmpfs: false,
        }
    }
}

impl Config {
    /// Returns the defaults for these directories.
    pub fn new(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            dirs: dirs.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A value is out of its range.
    pub fn validate(&self) -> Result<(), OpenError> {
        let fault = if self.dirs.is_empty() {
            "a store needs a directory: set dirs"
        } else if self.dirs.len() > DIRS_MAX {
            "a store has at most 64 directories: shorten dirs"
        } else if self.capacity_bytes < BLOCK {
            "a store needs room for 4 KiB at least: raise capacity_bytes"
        } else if self.segment_bytes == 0 || !self.segment_bytes.is_multiple_of(BLOCK) {
            "segments are positive multiples of 4 KiB: change segment_bytes"
        } else if self.longest_bytes() < self.usable_bytes() {
            "so large a store takes too many segments: raise segment_bytes, or lower capacity_bytes"
        } else if self.write_queue_items == 0 {
            "the write queue needs room for one tensor at least: raise write_queue_items"
        } else {
            return Ok(());
        };
        Err(OpenError::Config(fault))
    }

    /// Returns the capacity in whole blocks, which is all that tensors can use of it.
    pub(crate) fn usable_bytes(&self) -> u64 {
        self.capacity_bytes - self.capacity_bytes % BLOCK
    }

    /// Returns how long the next segment of a directory is that has `made` of them.
    pub(crate) fn next_segment_bytes(&self, made: usize) -> u64 {
        let doublings = u32::try_from(made / SEGMENTS_ALIKE).unwrap_or(u32::MAX);
        let times = 2_u64.saturating_pow(doublings);
        let bytes = self.segment_bytes.saturating_mul(times);
        bytes.min(self.usable_bytes())
    }

    /// Returns how much all segments of a directory hold.
    fn longest_bytes(&self) -> u64 {
        let times = (2 << DOUBLINGS_MAX) - 1;
        self.segment_bytes
            .saturating_mul(SEGMENTS_ALIKE as u64 * times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_that_cannot_work_says_what_to_change() {
        let good = Config::new(["/spill".into()]);
        assert!(good.validate().is_ok());
        let changes: [fn(&mut Config); 6] = [
            |config| config.dirs.clear(),
            |config| config.dirs = vec!["/spill".into(); 65],
            |config| config.capacity_bytes = 100,
            |config| config.segment_bytes = 5000,
            |config| config.capacity_bytes = u64::MAX,
            |config| config.write_queue_items = 0,
        ];
        for change in changes {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(
                matches!(bad.validate(), Err(OpenError::Config(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn no_capacity_takes_more_segments_than_an_engine_has_room_for() {
        let sizes = [1 << 20, 1 << 30, 64 << 30, 2 << 40, 1 << 50];
        for (capacity, segment) in sizes.iter().flat_map(|c| [(*c, BLOCK), (*c, 1 << 30)]) {
            let config = Config {
                capacity_bytes: capacity,
                segment_bytes: segment,
                ..Config::new(["/spill".into()])
            };
            let (mut made, mut bytes) = (0, 0);
            while bytes < capacity && made <= 1024 {
                bytes += config.next_segment_bytes(made);
                made += 1;
            }
            assert_eq!(config.validate().is_ok(), made <= 960, "{config:?}: {made}");
        }
    }
}
