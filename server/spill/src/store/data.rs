//! What is offloaded.

use bytes::Bytes;

use crate::memory::HostBuf;

/// A tensor's bytes, by value.
#[derive(Debug)]
pub enum Data {
    /// Aligned memory: written from where it lies.
    Buf(HostBuf),
    /// Memory of any kind: copied on its way, piece by piece.
    Bytes(Bytes),
}

impl Data {
    /// Returns how many bytes there are.
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Buf(buffer) => buffer,
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl From<HostBuf> for Data {
    fn from(buffer: HostBuf) -> Self {
        Self::Buf(buffer)
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}
