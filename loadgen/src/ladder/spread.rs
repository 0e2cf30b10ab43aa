//! A figure over repetitions.

use serde::{Deserialize, Serialize};

/// The mean over repetitions, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Repetitions.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with n - 1; null for a single one.
    pub sd: Option<f64>,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Returns the spread of `values`, or `None` where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let (&first, rest) = values.split_first()?;
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            n: values.len(),
            mean,
            sd: (!rest.is_empty()).then(|| (squares / (count - 1.0)).sqrt()),
            min: rest.iter().fold(first, |least, value| least.min(*value)),
            max: rest.iter().fold(first, |most, value| most.max(*value)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repetition_has_no_deviation() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[4.0]).unwrap().sd, None);
        let three = Spread::of(&[1.0, 2.0, 6.0]).unwrap();
        assert_eq!((three.n, three.mean), (3, 3.0));
        assert_eq!((three.min, three.max), (1.0, 6.0));
        // Squares of 2, 1 and 3, over 2.
        assert!((three.sd.unwrap() - 7f64.sqrt()).abs() < 1e-12);
    }
}
