//! Parts of one buffer that go separate ways, each exclusively its holder's.
//!
//! A large transfer is many operations in flight on one buffer. Each operation owns its part by
//! value until it completes; when all parts are back, they join to the buffer again.
//!
//! Invariant: the parts of a buffer do not overlap, and nobody reaches the buffer itself while a
//! part lives.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    sync::Arc,
};

use super::{ALIGNMENT, HostBuf};

/// A part of a [`HostBuf`]: it begins on an [`ALIGNMENT`] border and is whole multiples of it long.
pub struct Piece {
    buffer: Arc<HostBuf>,
    start: NonNull<u8>,
    len: usize,
    /// Which of an engine's registered buffers it is.
    slot: Option<u16>,
}

// SAFETY: a piece has its bytes for itself, wherever it is: see the module's invariant. The buffer
// it keeps alive is `Send`, and is not looked at before the last piece is gone.
#[expect(unsafe_code, reason = "parts of one buffer need a pointer")]
unsafe impl Send for Piece {}
// SAFETY: through a shared piece its bytes can be read only, as through a shared slice.
#[expect(unsafe_code, reason = "parts of one buffer need a pointer")]
unsafe impl Sync for Piece {}

impl HostBuf {
    /// Cuts the buffer, up to its length rounded up to [`ALIGNMENT`], into pieces of `bytes` bytes;
    /// the last may be shorter. The bytes that rounding adds are arbitrary.
    ///
    /// # Panics
    /// If `bytes` is not a positive multiple of [`ALIGNMENT`].
    pub fn into_pieces(mut self, bytes: usize) -> Vec<Piece> {
        assert!(
            bytes > 0 && bytes.is_multiple_of(ALIGNMENT),
            "a piece is a positive multiple of {ALIGNMENT} bytes"
        );
        let padded = self.len.next_multiple_of(ALIGNMENT);
        let starts: Vec<(NonNull<u8>, usize)> = self.slab.bytes_mut()[..padded]
            .chunks_mut(bytes)
            .map(|part| (NonNull::from(&mut *part).cast(), part.len()))
            .collect();
        let buffer = Arc::new(self);
        starts
            .into_iter()
            .map(|(start, len)| Piece {
                buffer: Arc::clone(&buffer),
                start,
                len,
                slot: None,
            })
            .collect()
    }
}

impl Piece {
    /// Returns the buffer that these pieces are all of, in any order, or the pieces if there are
    /// others elsewhere. No pieces at all make no buffer.
    ///
    /// # Errors
    /// A piece is missing, or is of another buffer.
    pub fn join(mut pieces: Vec<Piece>) -> Result<HostBuf, Vec<Piece>> {
        let Some(last) = pieces.pop() else {
            return Err(pieces);
        };
        let of_one = pieces.iter().all(|p| Arc::ptr_eq(&p.buffer, &last.buffer));
        if !of_one || Arc::strong_count(&last.buffer) != pieces.len() + 1 {
            pieces.push(last);
            return Err(pieces);
        }
        drop(pieces);
        Arc::try_unwrap(last.buffer).map_err(|_| Vec::new())
    }

    /// Cuts the piece at `at`: it keeps what is before, and what is behind is returned. Both belong to
    /// the same registered buffer.
    ///
    /// # Panics
    /// If `at` is not a multiple of [`ALIGNMENT`] within the piece.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Piece {
        assert!(
            at.is_multiple_of(ALIGNMENT) && at <= self.len,
            "a piece of {} bytes is not cut at {at}",
            self.len
        );
        let start = NonNull::from(&mut self[at..]).cast();
        let tail = Piece {
            buffer: Arc::clone(&self.buffer),
            start,
            len: self.len - at,
            slot: self.slot,
        };
        self.len = at;
        tail
    }

    /// Undoes [`split_off`](Self::split_off).
    ///
    /// # Panics
    /// If `tail` is not what lies behind the piece in the same buffer.
    pub fn unsplit(&mut self, tail: Piece) {
        let behind: *const [u8] = &raw const self[self.len..];
        assert!(
            Arc::ptr_eq(&self.buffer, &tail.buffer) && behind.cast() == tail.start.as_ptr(),
            "only neighbours of one buffer join"
        );
        self.len += tail.len;
    }

    /// Names the piece as an engine's registered buffer.
    pub(crate) fn register(&mut self, slot: u16) {
        self.slot = Some(slot);
    }

    /// Returns which of the engine's registered buffers it is.
    pub(crate) fn slot(&self) -> Option<u16> {
        self.slot
    }
}

impl Deref for Piece {
    type Target = [u8];

    #[expect(unsafe_code, reason = "parts of one buffer need a pointer")]
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are initialised and live in the slab that `buffer` keeps, which does not
        // move; they are this piece's alone.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Piece {
    #[expect(unsafe_code, reason = "parts of one buffer need a pointer")]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the piece is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece")
            .field("len", &self.len)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::memory::{ALIGNMENT, Piece, Pool};

    #[test]
    fn pieces_are_apart_and_join_to_their_buffer_in_any_order() {
        let pool = Pool::new(1 << 20);
        let len = 2 * ALIGNMENT + 100;
        let mut pieces = pool.lease(len).into_pieces(ALIGNMENT);
        assert_eq!(pieces.len(), 3);
        for (piece, value) in pieces.iter_mut().zip(1..) {
            piece.fill(value);
        }
        pieces.rotate_left(1);
        let buffer = Piece::join(pieces).expect("all pieces are there");
        assert_eq!(buffer.len(), len);
        assert!(buffer[..ALIGNMENT].iter().all(|byte| *byte == 1));
        assert!(buffer[2 * ALIGNMENT..].iter().all(|byte| *byte == 3));
        drop(buffer);
        assert_eq!(pool.usage().leased_bytes, 0);
    }

    #[test]
    fn a_piece_is_cut_and_whole_again() {
        let pool = Pool::new(1 << 20);
        let mut whole = pool.lease(3 * ALIGNMENT).into_pieces(4 * ALIGNMENT);
        let mut head = whole.pop().expect("one piece");
        head.register(3);
        head.fill(1);
        let mut tail = head.split_off(ALIGNMENT);
        tail.fill(2);
        assert_eq!((head.len(), tail.len()), (ALIGNMENT, 2 * ALIGNMENT));
        assert_eq!(tail.slot(), Some(3));
        head.unsplit(tail);
        assert_eq!(head.len(), 3 * ALIGNMENT);
        assert!(head[..ALIGNMENT].iter().all(|byte| *byte == 1));
        assert!(head[ALIGNMENT..].iter().all(|byte| *byte == 2));
        assert!(Piece::join(vec![head]).is_ok());
    }

    #[test]
    fn a_missing_piece_keeps_the_buffer_from_its_holder() {
        let pool = Pool::new(1 << 20);
        let mut pieces = pool.lease(2 * ALIGNMENT).into_pieces(ALIGNMENT);
        let in_flight = pieces.pop();
        let pieces = Piece::join(pieces).expect_err("one is in flight");
        assert!(pool.usage().leased_bytes > 0);
        drop((pieces, in_flight));
        assert_eq!(pool.usage().leased_bytes, 0);
    }
}
