//! Which tensors may be parked. Pure.

use forebay_proto::Tensor;
use forebay_spill::Bounds;

/// Which tensors may be parked.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    floor_bytes: u64,
    bounds: Bounds,
}

impl Limits {
    /// Lets tensors of at least `floor_bytes` go, to a store of these bounds.
    pub fn new(floor_bytes: u64, bounds: Bounds) -> Self {
        Self {
            floor_bytes: floor_bytes.max(1),
            bounds,
        }
    }

    /// Returns whether a tensor is worth the way.
    pub fn is_large(&self, tensor: &Tensor) -> bool {
        tensor.data().len() as u64 >= self.floor_bytes
    }

    /// Returns how many bytes leave memory where the large ones of `tensors` go, which they do
    /// together; 0 where none is large, or the store would never take all of them.
    pub fn parkable<'a>(&self, tensors: impl Iterator<Item = &'a Tensor> + Clone) -> u64 {
        let large = tensors.filter(|tensor| self.is_large(tensor));
        let lens = large.map(|tensor| tensor.data().len());
        match self.bounds.exceeded(lens.clone()) {
            Some(_) => 0,
            None => lens.map(|len| len as u64).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_proto::{DataType, Shape};
    use forebay_spill::Config;

    use super::*;

    fn tensor(len: usize) -> Tensor {
        let shape = Shape::new(vec![i64::try_from(len).unwrap()]).unwrap();
        Tensor::new("x", DataType::Uint8, shape, vec![0; len]).unwrap()
    }

    #[test]
    fn what_is_small_or_the_store_never_takes_stays() {
        let config = Config {
            capacity_bytes: 16 << 10,
            write_queue_bytes: 8 << 10,
            ..Config::default()
        };
        let limits = Limits::new(100, config.bounds());
        let parkable = |lens: &[usize]| {
            let tensors: Vec<Tensor> = lens.iter().map(|len| tensor(*len)).collect();
            limits.parkable(tensors.iter())
        };
        assert_eq!(parkable(&[99, 0]), 0);
        assert_eq!(parkable(&[99, 100, 200]), 300);
        // One alone may be longer than the queue, but not than the store.
        assert_eq!(parkable(&[99, 16 << 10]), 16 << 10);
        assert_eq!(parkable(&[100, 8 << 10]), 0);
        assert_eq!(parkable(&[(16 << 10) + 1]), 0);
    }
}
