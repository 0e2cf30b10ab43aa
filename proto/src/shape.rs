//! Shapes of tensors whose every dimension is known.

use std::fmt;

use crate::{DataType, ProtocolError, limits::MAX_DIMS};

/// The dimensions of a tensor, outermost first.
///
/// Invariant: no dimension is negative, and the number of elements fits 64 bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: Vec<i64>,
    elements: u64,
}

impl Shape {
    /// Checks `dims` and wraps them. No dimensions make a scalar, of one element.
    ///
    /// # Errors
    /// A negative dimension, more than [`MAX_DIMS`] of them, or more elements than 64 bits count.
    pub fn new(dims: Vec<i64>) -> Result<Self, ProtocolError> {
        if dims.len() > MAX_DIMS {
            return Err(ProtocolError::TooMany {
                what: "dimensions",
                count: dims.len(),
                limit: MAX_DIMS,
            });
        }
        let mut elements = Some(1u64);
        let mut empty = false;
        for &dim in &dims {
            let Ok(dim) = u64::try_from(dim) else {
                return Err(ProtocolError::NegativeDimension { dims });
            };
            empty |= dim == 0;
            // A zero further on does not excuse an overflow: strides are made of the others.
            if dim != 0 {
                elements = elements.and_then(|product| product.checked_mul(dim));
            }
        }
        match elements {
            Some(_) if empty => Ok(Self { dims, elements: 0 }),
            Some(elements) => Ok(Self { dims, elements }),
            None => Err(ProtocolError::ShapeOverflow { dims }),
        }
    }

    /// Returns the dimensions.
    pub fn dims(&self) -> &[i64] {
        &self.dims
    }

    /// Returns the number of elements.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// Returns the bytes that elements of `datatype` take, or `None` for BYTES, whose elements
    /// have lengths of their own.
    ///
    /// # Errors
    /// The number of bytes does not fit 64 bits.
    pub fn byte_size(&self, datatype: DataType) -> Result<Option<u64>, ProtocolError> {
        let Some(size) = datatype.size() else {
            return Ok(None);
        };
        match self.elements.checked_mul(size as u64) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(ProtocolError::ShapeOverflow {
                dims: self.dims.clone(),
            }),
        }
    }

    /// Returns the same shape with another first dimension.
    ///
    /// # Errors
    /// As [`new`](Self::new); a scalar is [`ProtocolError::Missing`] its batch dimension.
    pub fn with_batch(&self, batch: i64) -> Result<Self, ProtocolError> {
        let mut dims = self.dims.clone();
        match dims.first_mut() {
            Some(first) => *first = batch,
            None => {
                return Err(ProtocolError::Missing {
                    what: "the batch dimension",
                });
            }
        }
        Self::new(dims)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sizes_agree_with_wide_arithmetic(
            dims in proptest::collection::vec(
                prop_oneof![-2i64..6, Just(i64::MAX), Just(i64::MIN), Just(1 << 32)], 0..6)
        ) {
            let negative = dims.iter().any(|&dim| dim < 0);
            // Saturates far above 64 bits, so that five factors cannot wrap it.
            let product = dims.iter().filter(|&&dim| dim != 0)
                .fold(1u128, |product, &dim| product.saturating_mul(dim.unsigned_abs().into()));
            match Shape::new(dims.clone()) {
                Ok(shape) => {
                    prop_assert!(!negative && product <= u128::from(u64::MAX));
                    let expected = if dims.contains(&0) { 0 } else { product };
                    prop_assert_eq!(u128::from(shape.elements()), expected);
                    match shape.byte_size(DataType::Fp64) {
                        Ok(bytes) => prop_assert_eq!(bytes.map(u128::from), Some(expected * 8)),
                        Err(_) => prop_assert!(expected * 8 > u128::from(u64::MAX)),
                    }
                }
                Err(ProtocolError::NegativeDimension { .. }) => prop_assert!(negative),
                Err(_) => prop_assert!(product > u128::from(u64::MAX)),
            }
        }
    }

    #[test]
    fn scalars_have_one_element() {
        assert_eq!(Shape::new(vec![]).map(|shape| shape.elements()), Ok(1));
    }
}
