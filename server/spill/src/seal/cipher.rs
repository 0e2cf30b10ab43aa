//! Encryption at rest: AES-256-GCM with a key that lives and dies with the store.
//!
//! Invariant: a nonce is a counter that never goes back and the number of the piece, so none is used
//! twice with one key.

use std::{
    fmt, io,
    sync::atomic::{AtomicU64, Ordering},
};

use aes_gcm::{
    Aes256Gcm, Key, KeyInit, Nonce, Tag,
    aead::{AeadInOut, Generate, inout::InOutBuf},
};

pub(crate) struct Cipher {
    aes: Aes256Gcm,
    sealed: AtomicU64,
}

impl Cipher {
    pub(super) fn new() -> io::Result<Self> {
        let key = Key::<Aes256Gcm>::try_generate().map_err(io::Error::other)?;
        Ok(Self {
            aes: Aes256Gcm::new(&key),
            sealed: AtomicU64::new(0),
        })
    }

    /// Encrypts in place; returns the nonce and the tag.
    pub(super) fn encrypt(
        &self,
        place: &[u8],
        piece: u32,
        block: &mut [u8],
    ) -> ([u8; 12], [u8; 16]) {
        let counter = self.sealed.fetch_add(1, Ordering::Relaxed);
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&counter.to_le_bytes());
        nonce[8..].copy_from_slice(&piece.to_le_bytes());
        let block = InOutBuf::from(block);
        let tag = self
            .aes
            .encrypt_inout_detached(&Nonce::from(nonce), place, block)
            .expect("a block is shorter than 64 GiB");
        (nonce, tag.into())
    }

    /// Decrypts in place; returns whether the block is what was encrypted.
    pub(super) fn decrypt(
        &self,
        place: &[u8],
        (nonce, tag): (&[u8; 12], &[u8; 16]),
        block: &mut [u8],
    ) -> bool {
        let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
        let block = InOutBuf::from(block);
        self.aes
            .decrypt_inout_detached(&nonce, place, block, &tag)
            .is_ok()
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}
