//! A distribution as it is reported.

use serde::{Deserialize, Serialize};

use super::millis;
use crate::stats::{Latencies, Percentile, QUANTILES};

/// Latencies of many requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Samples of all kinds.
    pub samples: u64,
    /// Samples that are only known to be at least so large.
    pub censored: u64,
    /// Samples without an answer, which rank above all others.
    pub never: u64,
    /// The smallest.
    pub min_ms: Option<f64>,
    /// The mean of those that have a time.
    pub mean_ms: Option<f64>,
    /// The largest that has a time.
    pub max_ms: Option<f64>,
    /// The percentiles, ascending.
    pub percentiles: Vec<PercentileReport>,
    /// Each distinct time in nanoseconds, to three digits, and the samples that have it.
    pub buckets_ns: Vec<(u64, u64)>,
}

/// One percentile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PercentileReport {
    /// Its name.
    pub name: String,
    /// The fraction of samples at or below it.
    pub quantile: f64,
    /// Fewest samples that may speak of it.
    pub floor: u64,
    /// The order statistic; null below the floor.
    pub value_ms: Option<f64>,
    /// Whether the true value may be larger, because answers were missing.
    pub at_least: bool,
    /// A bound from below at 99 % confidence.
    pub low_ms: Option<f64>,
    /// A bound from above at 99 % confidence; null where there is none.
    pub high_ms: Option<f64>,
}

impl From<&Latencies> for Distribution {
    fn from(latencies: &Latencies) -> Self {
        Self {
            samples: latencies.samples(),
            censored: latencies.censored(),
            never: latencies.never(),
            min_ms: latencies.min().map(millis),
            mean_ms: latencies.mean().map(millis),
            max_ms: latencies.max().map(millis),
            percentiles: QUANTILES
                .iter()
                .map(|quantile| latencies.percentile(*quantile).into())
                .collect(),
            buckets_ns: latencies.buckets(),
        }
    }
}

impl From<Percentile> for PercentileReport {
    fn from(percentile: Percentile) -> Self {
        Self {
            name: percentile.quantile.name.to_owned(),
            quantile: percentile.quantile.fraction(),
            floor: percentile.quantile.floor,
            value_ms: percentile.value.map(millis),
            at_least: percentile.at_least,
            low_ms: percentile.low.map(millis),
            high_ms: percentile.high.map(millis),
        }
    }
}

impl Distribution {
    /// Returns the distribution's points: a fraction of the samples and the time in milliseconds
    /// that they do not exceed. At most `most` of them, dense where the tail is.
    pub(crate) fn curve(&self, most: usize) -> Vec<(f64, f64)> {
        let samples = self.samples as f64;
        let mut seen = 0;
        let mut points: Vec<(f64, f64)> = Vec::new();
        // One point for each step of equal width on the scale of -ln(1 - fraction).
        let step = (samples + 1.0).ln() / most as f64;
        let mut next = 0.0;
        for (nanos, count) in &self.buckets_ns {
            seen += count;
            let depth = -(1.0 - seen as f64 / (samples + 1.0)).ln();
            if depth >= next || points.is_empty() {
                points.push((seen as f64 / (samples + 1.0), *nanos as f64 / 1e6));
                next = depth + step;
            }
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_curve_keeps_the_tail_and_stays_small() {
        let mut latencies = Latencies::new();
        (1..=100_000).for_each(|micros| latencies.record(Duration::from_micros(micros)));
        let curve = Distribution::from(&latencies).curve(80);
        assert!((30..=81).contains(&curve.len()), "{}", curve.len());
        assert!(curve.is_sorted_by(|left, right| left.0 < right.0 && left.1 <= right.1));
        let (last, slowest) = curve[curve.len() - 1];
        assert!(last > 0.999 && slowest > 99.8, "{last} {slowest}");
    }
}
