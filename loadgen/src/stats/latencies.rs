//! A distribution of latencies that hides nothing.
//!
//! Besides exact times it holds lower bounds (an answer that had not come when the wait ended) and
//! answers that never come (errors). Both keep their rank: a request that failed fast is worse
//! than every answer, so failing never improves a percentile.
//!
//! Invariant: merging distributions gives the distribution of all their samples.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::Quantile;

/// The largest latency that is told apart, in nanoseconds: one hour. Fixed bounds mean that no
/// recording allocates.
const MAX_NS: u64 = 3_600_000_000_000;

/// Digits to which latencies are kept: within 0.1 %.
const DIGITS: u8 = 3;

/// Latencies of many requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies {
    exact: Histogram<u64>,
    censored: u64,
    smallest_censored: Option<Duration>,
    never: u64,
}

/// A quantile of [`Latencies`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentile {
    /// Which one.
    pub quantile: Quantile,
    /// The estimate; `None` where the samples are too few to speak of it.
    pub value: Option<Duration>,
    /// Whether the true value may be larger, because answers were missing.
    pub at_least: bool,
    /// A bound from below at 99 % confidence.
    pub low: Option<Duration>,
    /// A bound from above at 99 % confidence; `None` where there is none.
    pub high: Option<Duration>,
}

impl Latencies {
    /// Starts without samples.
    pub fn new() -> Self {
        Self {
            exact: Histogram::new_with_bounds(1, MAX_NS, DIGITS)
                .expect("the bounds are constants that the histogram takes"),
            censored: 0,
            smallest_censored: None,
            never: 0,
        }
    }

    /// Adds a latency.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(MAX_NS);
        self.exact.saturating_record(nanos);
    }

    /// Adds a latency that would have been larger, had someone waited.
    pub fn record_at_least(&mut self, latency: Duration) {
        self.record(latency);
        self.censored += 1;
        let smallest = self
            .smallest_censored
            .map_or(latency, |old| old.min(latency));
        self.smallest_censored = Some(smallest);
    }

    /// Adds a request that got no answer and never will.
    pub fn record_never(&mut self) {
        self.never += 1;
    }

    /// Adds all samples of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.exact
            .add(&other.exact)
            .expect("all distributions have the same bounds");
        self.censored += other.censored;
        self.never += other.never;
        self.smallest_censored = match (self.smallest_censored, other.smallest_censored) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
    }

    /// Returns the number of samples of all kinds.
    pub fn samples(&self) -> u64 {
        self.exact.len() + self.never
    }

    /// Returns how many samples are lower bounds.
    pub fn censored(&self) -> u64 {
        self.censored
    }

    /// Returns how many samples are answers that never come.
    pub fn never(&self) -> u64 {
        self.never
    }

    /// Returns the smallest time, or `None` without any.
    pub fn min(&self) -> Option<Duration> {
        self.time(|exact| exact.min())
    }

    /// Returns the largest time, or `None` without any.
    pub fn max(&self) -> Option<Duration> {
        self.time(|exact| exact.max())
    }

    /// Returns the mean of the times, or `None` without any.
    pub fn mean(&self) -> Option<Duration> {
        (!self.exact.is_empty()).then(|| Duration::from_secs_f64(self.exact.mean() / 1e9))
    }

    /// Returns each distinct time in nanoseconds and how many samples have it, ascending.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        self.exact
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect()
    }

    /// Returns `quantile`, with the bounds that the number of samples allows.
    pub fn percentile(&self, quantile: Quantile) -> Percentile {
        let samples = self.samples();
        if samples < quantile.floor {
            return Percentile {
                quantile,
                value: None,
                at_least: false,
                low: None,
                high: None,
            };
        }
        let bounds = quantile.bounds(samples);
        let value = self.at_rank(quantile.rank(samples));
        // A lower bound below the estimate may belong above it.
        let uncertain = |time: Duration| self.smallest_censored.is_some_and(|cut| cut <= time);
        Percentile {
            quantile,
            value: value.or_else(|| self.max()),
            at_least: value.is_none_or(uncertain),
            low: bounds
                .low
                .and_then(|rank| self.at_rank(rank).or_else(|| self.max())),
            high: bounds
                .high
                .and_then(|rank| self.at_rank(rank))
                .filter(|time| !uncertain(*time)),
        }
    }

    /// Returns the time at `rank`, from 1, or `None` where the answer never comes.
    fn at_rank(&self, rank: u64) -> Option<Duration> {
        let mut seen = 0;
        for step in self.exact.iter_recorded() {
            seen += step.count_at_value();
            if seen >= rank {
                return Some(Duration::from_nanos(step.value_iterated_to()));
            }
        }
        None
    }

    fn time(&self, of: impl Fn(&Histogram<u64>) -> u64) -> Option<Duration> {
        (!self.exact.is_empty()).then(|| Duration::from_nanos(of(&self.exact)))
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::QUANTILES;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn close(actual: Option<Duration>, expected: Duration) -> bool {
        actual.is_some_and(|actual| {
            (actual.as_secs_f64() / expected.as_secs_f64() - 1.0).abs() < 2e-3
        })
    }

    #[test]
    fn percentiles_below_the_floor_are_not_given() {
        let mut latencies = Latencies::new();
        (1..=458).for_each(|millis| latencies.record(ms(millis)));
        assert_eq!(latencies.percentile(QUANTILES[3]).value, None);
        latencies.record(ms(459));
        let p99 = latencies.percentile(QUANTILES[3]);
        assert!(close(p99.value, ms(455)) && close(p99.high, ms(459)) && !p99.at_least);
    }

    #[test]
    fn fast_errors_make_percentiles_worse_not_better() {
        let mut good = Latencies::new();
        (0..980).for_each(|n| good.record(ms(10 + n / 100)));
        let mut bad = good.clone();
        (0..20).for_each(|_| bad.record_never());
        let (good, bad) = (good.percentile(QUANTILES[3]), bad.percentile(QUANTILES[3]));
        assert!(!good.at_least && bad.at_least);
        assert!(bad.value >= good.value);
        assert_eq!(bad.high, None);
    }

    #[test]
    fn lower_bounds_mark_every_percentile_above_them() {
        let mut latencies = Latencies::new();
        (0..95).for_each(|_| latencies.record(ms(5)));
        (0..5).for_each(|_| latencies.record_at_least(ms(700)));
        let [p50, p90, p95] = [0, 1, 2].map(|at| latencies.percentile(QUANTILES[at]));
        assert!(!p50.at_least && !p90.at_least && !p95.at_least);
        assert_eq!(p95.high, None);
        latencies.record_at_least(ms(1));
        assert!(latencies.percentile(QUANTILES[0]).at_least);
    }

    #[derive(Debug, Clone, Copy)]
    enum Sample {
        Time(u64),
        AtLeast(u64),
        Never,
    }

    fn samples() -> impl Strategy<Value = Vec<Sample>> {
        let one = prop_oneof![
            6 => (1u64..10_000_000_000).prop_map(Sample::Time),
            1 => (1u64..10_000_000_000).prop_map(Sample::AtLeast),
            1 => Just(Sample::Never),
        ];
        proptest::collection::vec(one, 0..200)
    }

    fn collect(samples: &[Sample]) -> Latencies {
        let mut latencies = Latencies::new();
        for sample in samples {
            match sample {
                Sample::Time(nanos) => latencies.record(Duration::from_nanos(*nanos)),
                Sample::AtLeast(nanos) => latencies.record_at_least(Duration::from_nanos(*nanos)),
                Sample::Never => latencies.record_never(),
            }
        }
        latencies
    }

    proptest! {
        // Each case scans histograms of 250 KiB, slowly without optimization.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn merging_parts_gives_the_whole(left in samples(), right in samples()) {
            let mut merged = collect(&left);
            merged.merge(&collect(&right));
            let whole = collect(&[left, right].concat());
            prop_assert_eq!(&merged, &whole);
        }

        #[test]
        fn percentiles_are_the_order_statistics_within_a_thousandth(
            times in proptest::collection::vec(1u64..10_000_000_000, 7..300)
        ) {
            let latencies = collect(&times.iter().copied().map(Sample::Time).collect::<Vec<_>>());
            let mut sorted = times;
            sorted.sort_unstable();
            let mut last = Duration::ZERO;
            for quantile in QUANTILES {
                let percentile = latencies.percentile(quantile);
                prop_assert_eq!(percentile.value.is_some(), sorted.len() as u64 >= quantile.floor);
                let Some(value) = percentile.value else { continue };
                let rank = usize::try_from(quantile.rank(sorted.len() as u64)).unwrap();
                prop_assert!(close(Some(value), Duration::from_nanos(sorted[rank - 1])));
                prop_assert!(percentile.low.unwrap() <= value && value <= percentile.high.unwrap());
                prop_assert!(value >= last);
                last = value;
            }
        }
    }
}
