//! What is offloaded.

use std::fmt;

use bytes::Bytes;

use crate::memory::HostBuf;

/// A tensor's bytes, by value.
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

impl fmt::Debug for Data {
    /// Tells the length: the bytes themselves are nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_bytes_are_not_in_a_log() {
        let data = Data::from(b"secret".to_vec());
        assert_eq!(format!("{data:?}"), "Data { len: 6, .. }");
    }
}
