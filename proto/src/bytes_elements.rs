//! The elements of BYTES tensors: each a little-endian `u32` length and that many bytes.

use bytes::{BufMut, Bytes, BytesMut};

/// Iterates over the elements of a BYTES tensor's data, without copying.
///
/// Made for the data of a [`Tensor`](crate::Tensor), which is known to be well formed; it ends
/// early at a length prefix that points past the end.
#[derive(Debug, Clone)]
pub struct BytesElements {
    rest: Bytes,
}

impl BytesElements {
    /// Starts at the first element of `data`.
    pub fn new(data: Bytes) -> Self {
        Self { rest: data }
    }
}

impl Iterator for BytesElements {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let length = prefix(&self.rest)?;
        if self.rest.len() - 4 < length {
            return None;
        }
        let _prefix = self.rest.split_to(4);
        Some(self.rest.split_to(length))
    }
}

/// Joins `elements` to the data of a BYTES tensor.
///
/// # Panics
/// An element is longer than `u32::MAX` bytes, which no message can carry.
pub fn encode_bytes_elements<T: AsRef<[u8]>>(elements: &[T]) -> Bytes {
    let total: usize = elements
        .iter()
        .map(|element| 4 + element.as_ref().len())
        .sum();
    let mut data = BytesMut::with_capacity(total);
    for element in elements {
        let element = element.as_ref();
        let length = u32::try_from(element.len()).expect("an element fits a message of 2 GiB");
        data.put_u32_le(length);
        data.put_slice(element);
    }
    data.freeze()
}

/// Checks that `data` is exactly `expected` elements. Allocates nothing.
pub(crate) fn check_bytes_elements(mut data: &[u8], expected: u64) -> Result<(), &'static str> {
    for _ in 0..expected {
        let Some(length) = prefix(data) else {
            return Err("the data ends before the last element");
        };
        data = data
            .get(4 + length..)
            .ok_or("a length points past the end of the data")?;
    }
    if data.is_empty() {
        Ok(())
    } else {
        Err("more data follows the last element")
    }
}

fn prefix(data: &[u8]) -> Option<usize> {
    let prefix = data.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*prefix)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn elements_survive_the_round_trip(
            elements in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9)
        ) {
            let data = encode_bytes_elements(&elements);
            prop_assert_eq!(check_bytes_elements(&data, elements.len() as u64), Ok(()));
            prop_assert!(check_bytes_elements(&data, elements.len() as u64 + 1).is_err());
            let back: Vec<Vec<u8>> = BytesElements::new(data).map(|e| e.to_vec()).collect();
            prop_assert_eq!(back, elements);
        }

        #[test]
        fn any_bytes_are_refused_or_iterated_whole(data in proptest::collection::vec(any::<u8>(), 0..40), n in 0u64..6) {
            if check_bytes_elements(&data, n).is_ok() {
                prop_assert_eq!(BytesElements::new(data.into()).count() as u64, n);
            }
        }
    }
}
