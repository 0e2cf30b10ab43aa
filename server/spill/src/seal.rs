//! How the store knows that what comes back is what it wrote: a checksum, or encryption.
//!
//! The seal of a block of at most 1 MiB stays in memory; nothing of it is on the disk. It covers the
//! block and its place, so that bytes of another place, or older bytes of the same place, are as
//! wrong as flipped ones. A pass costs about 0.1 ms per MiB and runs on the spill thread, in the
//! same pass as the copy where there is one.
//!
//! Invariant: no two blocks are encrypted with the same nonce.

use std::{fmt, io};

use crate::{checksum, config::Checksum, extent::Extent};

mod cipher;

use cipher::Cipher;

/// Seals blocks on their way out and checks them on their way back.
#[derive(Debug)]
pub(crate) enum Sealer {
    Off,
    Crc,
    Aes(Box<Cipher>),
}

/// What must match when a block comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    None,
    Crc(u32),
    Aes { nonce: [u8; 12], tag: [u8; 16] },
}

/// The block is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

impl Sealer {
    /// # Errors
    /// The system gives no randomness for a key.
    pub(crate) fn new(checksum: Checksum, encrypt: bool) -> io::Result<Self> {
        Ok(match (encrypt, checksum) {
            (true, _) => Self::Aes(Box::new(Cipher::new()?)),
            (false, Checksum::Full) => Self::Crc,
            (false, Checksum::Off) => Self::Off,
        })
    }

    /// Returns whether a block can be written from where it lies.
    pub(crate) fn in_place(&self) -> bool {
        !matches!(self, Self::Aes(_))
    }

    /// Seals a block that is written from where it lies.
    ///
    /// # Panics
    /// If blocks have to be copied: see [`in_place`](Self::in_place).
    pub(crate) fn seal(&self, place: &Place, block: &[u8]) -> Seal {
        match self {
            Self::Off => Seal::None,
            Self::Crc => Seal::Crc(checksum::of(&place.bytes(), block)),
            Self::Aes(_) => unreachable!("encrypted blocks are copied"),
        }
    }

    /// Copies a block to where it is written from, sealed.
    ///
    /// # Panics
    /// If the lengths differ.
    pub(crate) fn copy(&self, place: &Place, from: &[u8], to: &mut [u8]) -> Seal {
        match self {
            Self::Off => {
                to.copy_from_slice(from);
                Seal::None
            }
            Self::Crc => Seal::Crc(checksum::copy(&place.bytes(), from, to)),
            Self::Aes(cipher) => {
                to.copy_from_slice(from);
                let (nonce, tag) = cipher.encrypt(&place.bytes(), place.piece, to);
                Seal::Aes { nonce, tag }
            }
        }
    }

    /// Checks a block that came back, and decrypts it.
    ///
    /// # Errors
    /// It is not what was written there.
    pub(crate) fn open(&self, place: &Place, seal: &Seal, block: &mut [u8]) -> Result<(), Broken> {
        let whole = match (self, seal) {
            (Self::Off, Seal::None) => true,
            (Self::Crc, Seal::Crc(crc)) => checksum::of(&place.bytes(), block) == *crc,
            (Self::Aes(cipher), Seal::Aes { nonce, tag }) => {
                cipher.decrypt(&place.bytes(), (nonce, tag), block)
            }
            _ => false,
        };
        whole.then_some(()).ok_or(Broken)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

/// Where a block lies, and which part of its tensor it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    extent: Extent,
    piece: u32,
}

impl Place {
    /// `start` is where the block begins in its tensor, in bytes.
    pub(crate) fn new(extent: Extent, start: usize) -> Self {
        let piece = u32::try_from(start / crate::memory::ALIGNMENT).unwrap_or(u32::MAX);
        Self { extent, piece }
    }

    fn bytes(&self) -> [u8; 26] {
        let Extent {
            dir,
            segment,
            offset,
            generation,
            ..
        } = self.extent;
        let mut bytes = [0; 26];
        bytes[..2].copy_from_slice(&dir.to_le_bytes());
        bytes[2..6].copy_from_slice(&segment.to_le_bytes());
        bytes[6..14].copy_from_slice(&offset.to_le_bytes());
        bytes[14..22].copy_from_slice(&generation.to_le_bytes());
        bytes[22..].copy_from_slice(&self.piece.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests;
