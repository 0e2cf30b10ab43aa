//! CRC-32C of a block and its place.
//!
//! Invariant: the same block at two places has two checksums, because a checksum goes on from that
//! of the place.

/// Bytes that stay in the nearest cache between being copied and being summed.
const STRIDE: usize = 16 << 10;

/// Returns the checksum of a block.
pub(crate) fn of(place: &[u8], block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(place), block)
}

/// Copies a block and returns its checksum.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn copy(place: &[u8], from: &[u8], to: &mut [u8]) -> u32 {
    assert_eq!(
        from.len(),
        to.len(),
        "a copy has the length of its original"
    );
    let mut crc = crc32c::crc32c(place);
    for (from, to) in from.chunks(STRIDE).zip(to.chunks_mut(STRIDE)) {
        to.copy_from_slice(from);
        crc = crc32c::crc32c_append(crc, to);
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copying_sums_as_summing_does() {
        let block: Vec<u8> = (0..40_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let mut copied = vec![0; block.len()];
        assert_eq!(copy(b"place", &block, &mut copied), of(b"place", &block));
        assert_eq!(block, copied);
        assert_ne!(of(b"place", &block), of(b"other", &block));
    }

    #[test]
    fn the_polynomial_is_castagnolis() {
        assert_eq!(of(b"", b"123456789"), 0xe306_9283);
    }
}
