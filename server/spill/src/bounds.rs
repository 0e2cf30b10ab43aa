//! What a store takes in one call, however empty it is. Pure.

use crate::{config::Config, error::Error, extent::padded};

/// The setting of how much the whole store takes.
pub(crate) const CAPACITY: &str = "capacity_bytes";

/// What a store takes in one call, however empty it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes, each tensor rounded up to whole blocks of 4 KiB.
    capacity_bytes: u64,
    /// Bytes of several tensors. One that waits alone may be longer.
    write_queue_bytes: u64,
    write_queue_items: u64,
}

impl Bounds {
    /// Returns why tensors of these lengths in bytes, offered in one call, can never be taken all: then
    /// with [`Error::TooLarge`].
    pub fn exceeded(&self, lens: impl IntoIterator<Item = usize>) -> Option<Error> {
        let (mut bytes, mut padded_bytes, mut items) = (0, 0, 0);
        for len in lens.into_iter().filter(|len| *len > 0) {
            bytes += len as u64;
            padded_bytes += padded(len) as u64;
            items += 1;
        }
        let queued_bytes = if items > 1 { bytes } else { 0 };
        let bounds = [
            (padded_bytes, self.capacity_bytes, CAPACITY),
            (queued_bytes, self.write_queue_bytes, "write_queue_bytes"),
            (items, self.write_queue_items, "write_queue_items"),
        ];
        let (asked, limit, key) = bounds.into_iter().find(|(asked, limit, _)| asked > limit)?;
        Some(Error::TooLarge { asked, limit, key })
    }
}

impl Config {
    /// Returns what a store with these settings takes in one call.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            capacity_bytes: self.usable_bytes(),
            write_queue_bytes: self.write_queue_bytes,
            write_queue_items: u64::try_from(self.write_queue_items).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_told_by_its_setting_once_it_is_exceeded() {
        let bounds = Config {
            capacity_bytes: (3 << 12) + 1,
            write_queue_bytes: 100,
            write_queue_items: 3,
            ..Config::default()
        }
        .bounds();
        let key = |lens: &[usize]| match bounds.exceeded(lens.iter().copied()) {
            Some(Error::TooLarge { key, .. }) => Some(key),
            Some(error) => panic!("{error}"),
            None => None,
        };
        // One alone may be longer than the queue, and what is empty takes no place.
        for fits in [&[3 << 12][..], &[50, 0, 0, 50], &[1, 1, 1]] {
            assert_eq!(key(fits), None, "{fits:?}");
        }
        assert_eq!(key(&[(3 << 12) + 1]), Some(CAPACITY));
        assert_eq!(key(&[50, 51]), Some("write_queue_bytes"));
        // Each takes a block of its own.
        assert_eq!(key(&[1; 4]), Some(CAPACITY));
        let roomy = Bounds {
            capacity_bytes: 1 << 20,
            ..bounds
        };
        let exceeded = roomy.exceeded([1; 4]).unwrap().to_string();
        assert!(exceeded.contains("write_queue_items"), "{exceeded}");
    }
}
