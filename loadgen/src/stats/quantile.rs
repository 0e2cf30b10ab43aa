//! Which quantiles a sample may speak of, and how sure it is.
//!
//! All of it is exact binomial arithmetic on ranks, free of assumptions on the distribution: the
//! number of samples below the true quantile `q` is binomial with chance `q`.

/// The chance, on each side, that a bound is wrong.
const DOUBT: f64 = 0.01;

/// Weights this far below the mode's no longer change a sum of doubles.
const NEGLIGIBLE: f64 = 1e-20;

/// A quantile, exactly, in parts of 100,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantile {
    parts: u32,
    /// Fewest samples that may speak of it: the smallest `n` of which the largest sample is above
    /// the true quantile with 99 % confidence, `q^n <= 0.01`.
    pub floor: u64,
    /// Its name.
    pub name: &'static str,
}

/// The quantiles that are reported.
pub const QUANTILES: [Quantile; 6] = [
    Quantile {
        parts: 50_000,
        floor: 7,
        name: "p50",
    },
    Quantile {
        parts: 90_000,
        floor: 44,
        name: "p90",
    },
    Quantile {
        parts: 95_000,
        floor: 90,
        name: "p95",
    },
    Quantile {
        parts: 99_000,
        floor: 459,
        name: "p99",
    },
    Quantile {
        parts: 99_900,
        floor: 4_603,
        name: "p99.9",
    },
    Quantile {
        parts: 99_990,
        floor: 46_050,
        name: "p99.99",
    },
];

/// Ranks, from 1, of the samples between which the true quantile lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The quantile is not below this sample, at 99 % confidence.
    pub low: Option<u64>,
    /// The quantile is not above this sample, at 99 % confidence.
    pub high: Option<u64>,
}

impl Quantile {
    /// Returns the quantile as a fraction.
    pub fn fraction(self) -> f64 {
        f64::from(self.parts) / 100_000.0
    }

    /// Returns the rank, from 1, of the sample that estimates the quantile of `samples`.
    pub fn rank(self, samples: u64) -> u64 {
        (samples * u64::from(self.parts)).div_ceil(100_000).max(1)
    }

    /// Returns the ranks that bound the quantile of `samples`, each at 99 % confidence.
    pub fn bounds(self, samples: u64) -> Bounds {
        let (first, weights) = binomial(samples, self);
        let total: f64 = weights.iter().sum();
        // Low: the largest rank r with P(B < r) <= DOUBT, where B counts samples below.
        let mut below = 0.0;
        let mut low = first;
        for weight in &weights {
            below += weight / total;
            if below > DOUBT {
                break;
            }
            low += 1;
        }
        // High: the smallest rank r with P(B >= r) <= DOUBT.
        let mut above = 0.0;
        let mut high = first + weights.len() as u64;
        for weight in weights.iter().rev() {
            above += weight / total;
            if above > DOUBT {
                break;
            }
            high -= 1;
        }
        Bounds {
            low: (low >= 1).then_some(low),
            high: (high <= samples).then_some(high),
        }
    }
}

/// Returns the binomial probabilities, up to a common factor, and the count that the first is of.
/// What is left out is negligible.
fn binomial(samples: u64, quantile: Quantile) -> (u64, Vec<f64>) {
    let n = samples as f64;
    let chance = quantile.fraction();
    let odds = chance / (1.0 - chance);
    let mode = samples * u64::from(quantile.parts) / 100_000;
    let mut down = Vec::new();
    let (mut count, mut weight) = (mode, 1.0);
    while count > 0 {
        let k = count as f64;
        weight *= k / ((n - k + 1.0) * odds);
        if weight < NEGLIGIBLE {
            break;
        }
        count -= 1;
        down.push(weight);
    }
    let mut weights: Vec<f64> = down.into_iter().rev().collect();
    weights.push(1.0);
    let (mut up, mut weight) = (mode, 1.0);
    while up < samples {
        let k = up as f64;
        weight *= (n - k) * odds / (k + 1.0);
        if weight < NEGLIGIBLE {
            break;
        }
        up += 1;
        weights.push(weight);
    }
    (count, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_the_fewest_samples_with_an_upper_bound() {
        for quantile in QUANTILES {
            assert_eq!(
                quantile.bounds(quantile.floor).high,
                Some(quantile.floor),
                "{quantile:?}"
            );
            assert_eq!(
                quantile.bounds(quantile.floor - 1).high,
                None,
                "{quantile:?}"
            );
        }
    }

    #[test]
    fn one_miss_needs_as_many_samples_as_the_published_table_says() {
        // With one sample above the bound allowed, the bound is the second largest.
        for (quantile, samples) in QUANTILES.iter().zip([11, 64, 130, 662, 6_636, 66_381]) {
            assert_eq!(
                quantile.bounds(samples).high,
                Some(samples - 1),
                "{quantile:?}"
            );
            assert_eq!(
                quantile.bounds(samples - 1).high,
                Some(samples - 1),
                "{quantile:?}"
            );
        }
    }

    #[test]
    fn bounds_of_a_small_median_match_the_sums_done_by_hand() {
        // n = 10: P(B <= 0) = 1/1024, P(B <= 1) = 11/1024 > 1 %.
        assert_eq!(
            QUANTILES[0].bounds(10),
            Bounds {
                low: Some(1),
                high: Some(10)
            }
        );
        // n = 20: P(B <= 4) = 0.0059, P(B <= 5) = 0.0207.
        assert_eq!(
            QUANTILES[0].bounds(20),
            Bounds {
                low: Some(5),
                high: Some(16)
            }
        );
    }

    #[test]
    fn bounds_enclose_the_estimate_at_any_size() {
        for quantile in QUANTILES {
            for samples in [1, 2, 7, 50, 459, 5_000, 100_000, 10_000_000] {
                let rank = quantile.rank(samples);
                let bounds = quantile.bounds(samples);
                assert!((1..=samples).contains(&rank));
                assert!(
                    bounds.low.is_none_or(|low| low <= rank),
                    "{quantile:?} {samples} {bounds:?}"
                );
                assert!(
                    bounds.high.is_none_or(|high| high >= rank),
                    "{quantile:?} {samples} {bounds:?}"
                );
            }
        }
    }
}
