//! What was measured, and how it compares.
//!
//! Invariant: a ratio is taken within one round, between runs that followed one another, and then the
//! median over the rounds; never between medians.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Peer,
    cell::Cell,
    client::Sample,
    libtorch::{self, Rate},
};

/// What one contestant did in one round.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// A server's figures.
    Served(Sample),
    /// The rates of the bare loop.
    Bare(Vec<Rate>),
    /// No figures, for this reason.
    Failed(String),
}

/// All rounds of one cell.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) cell: Cell,
    pub(crate) forebay: Vec<Outcome>,
    pub(crate) peers: BTreeMap<Peer, Vec<Outcome>>,
    /// Who was not run, and why.
    pub(crate) not_run: BTreeMap<Peer, String>,
}

/// What is compared: Forebay's figure over the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    Throughput,
    P50,
    /// The slowest of both, where either had too few answers for it.
    P99,
    Cpu,
    Peak,
    /// Throughput over the bare loop's at its best batch size.
    OfBest,
    /// Throughput over the bare loop's at the batch size that Forebay formed.
    OfFormed,
}

/// A median and how far the rounds lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
    pub(crate) rounds: usize,
}

/// A server's start and size.
#[derive(Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) name: &'static str,
    /// Seconds from its start until four models were ready, one for each time.
    pub(crate) ready_s: Vec<f64>,
    /// Memory with four models and no load, shared pages counted once.
    pub(crate) idle_bytes: Vec<u64>,
    /// What it is made of on the disk, without torch.
    pub(crate) disk_bytes: u64,
    /// Why it did not start, where it did not.
    pub(crate) fault: Option<String>,
}

impl Metric {
    pub(crate) const ALL: [Self; 7] = [
        Self::Throughput,
        Self::P50,
        Self::P99,
        Self::Cpu,
        Self::Peak,
        Self::OfBest,
        Self::OfFormed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Cpu => "server CPU",
            Self::Peak => "peak memory",
            Self::OfBest => "of the best batch's rate",
            Self::OfFormed => "of the rate at the batch formed",
        }
    }

    fn ratio(self, ours: &Sample, theirs: &Outcome) -> Option<f64> {
        let (ours, theirs) = match (self, theirs) {
            (Self::OfBest, Outcome::Bare(rates)) => (ours.per_s, libtorch::best(rates)?),
            (Self::OfFormed, Outcome::Bare(rates)) => {
                (ours.per_s, libtorch::at(rates, ours.mean_batch?)?)
            }
            (Self::P99, Outcome::Served(theirs))
                if ours.p99_is_slowest || theirs.p99_is_slowest =>
            {
                // A percentile is no match for the slowest, which is above it by nature.
                (ours.slowest_ms, theirs.slowest_ms)
            }
            (_, Outcome::Served(theirs)) => (self.figure(ours)?, self.figure(theirs)?),
            _ => return None,
        };
        (theirs > 0.0).then(|| ours / theirs)
    }

    fn figure(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Throughput => Some(sample.per_s),
            Self::P50 => Some(sample.p50_ms),
            Self::P99 => Some(sample.p99_ms),
            Self::Cpu => Some(sample.cpu_us),
            Self::Peak => Some(sample.peak_bytes as f64),
            Self::OfBest | Self::OfFormed => None,
        }
    }
}

impl Measured {
    /// Returns Forebay's figure over that of `peer`, or `None` where no round has both.
    pub(crate) fn ratio(&self, peer: Peer, metric: Metric) -> Option<Spread> {
        let rounds = self.forebay.iter().zip(self.peers.get(&peer)?);
        let ratios = rounds.filter_map(|(ours, theirs)| match ours {
            Outcome::Served(ours) => metric.ratio(ours, theirs),
            _ => None,
        });
        Spread::of(ratios.collect())
    }

    /// Returns why `peer` has no figures, in the first round that has none.
    pub(crate) fn fault(&self, peer: Peer) -> Option<&str> {
        if let Some(reason) = self.not_run.get(&peer) {
            return Some(reason);
        }
        first_fault(self.peers.get(&peer)?)
    }
}

/// Returns the median of one figure over the rounds of a server.
pub(crate) fn median_of(outcomes: &[Outcome], metric: Metric) -> Option<Spread> {
    let figures = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Served(sample) => metric.figure(sample),
        _ => None,
    });
    Spread::of(figures.collect())
}

/// Returns why the first round without figures has none.
pub(crate) fn first_fault(outcomes: &[Outcome]) -> Option<&str> {
    outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Failed(reason) => Some(&**reason),
        _ => None,
    })
}

impl Spread {
    /// Returns the spread of `values`, or `None` where there are none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = match values.len() % 2 {
            0 => f64::midpoint(upper, values[middle - 1]),
            _ => upper,
        };
        Some(Self {
            median,
            least: values[0],
            greatest: values[values.len() - 1],
            rounds: values.len(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::peers::cell::named;

    /// A run with `per_s` answers a second, and other figures that follow from it.
    pub(crate) fn served(per_s: f64) -> Outcome {
        Outcome::Served(Sample {
            per_s,
            p50_ms: 1000.0 / per_s,
            p99_ms: 2000.0 / per_s,
            p99_is_slowest: false,
            slowest_ms: 4000.0 / per_s,
            cpu_us: 1e6 / per_s,
            peak_bytes: 1 << 20,
            client_share: None,
            mean_batch: Some(2.0),
        })
    }

    pub(crate) fn measured(cell: &str, ours: &[f64], peer: Peer, theirs: Vec<Outcome>) -> Measured {
        Measured {
            cell: named(cell)[0],
            forebay: ours.iter().map(|&per_s| served(per_s)).collect(),
            peers: BTreeMap::from([(peer, theirs)]),
            not_run: BTreeMap::new(),
        }
    }

    #[test]
    fn a_ratio_is_the_median_over_rounds_that_have_both() {
        let gone = Outcome::Failed("it ended".to_owned());
        let theirs = vec![served(10.0), gone, served(10.0), served(20.0)];
        let ours = [20.0, 999.0, 30.0, 80.0];
        let cell = measured("mlp-stream-c8", &ours, Peer::Triton, theirs);
        let ratio = cell.ratio(Peer::Triton, Metric::Throughput).unwrap();
        assert_eq!((ratio.median, ratio.rounds), (3.0, 3));
        assert_eq!((ratio.least, ratio.greatest), (2.0, 4.0));
        assert_eq!(cell.fault(Peer::Triton), Some("it ended"));
        assert_eq!(cell.ratio(Peer::Echo, Metric::Throughput), None);
    }

    #[test]
    fn the_bare_loop_is_compared_at_its_best_and_at_the_batch_formed() {
        let rate = |batch, rows_per_s| Rate {
            form: "frozen".to_owned(),
            frozen: true,
            batch,
            rows_per_s,
        };
        let bare = Outcome::Bare(vec![rate(1, 100.0), rate(2, 200.0), rate(4, 400.0)]);
        let cell = measured("mlp-stream-c8", &[100.0], Peer::Libtorch, vec![bare]);
        let of = |metric| cell.ratio(Peer::Libtorch, metric).map(|ratio| ratio.median);
        assert_eq!(of(Metric::OfBest), Some(0.25));
        assert_eq!(of(Metric::OfFormed), Some(0.5));
        assert_eq!(of(Metric::P99), None);
        let mut untold = cell;
        if let Outcome::Served(sample) = &mut untold.forebay[0] {
            sample.mean_batch = None;
        }
        assert_eq!(untold.ratio(Peer::Libtorch, Metric::OfFormed), None);
        assert!(untold.ratio(Peer::Libtorch, Metric::OfBest).is_some());
    }

    #[test]
    fn the_slowest_is_compared_with_the_slowest_where_one_side_has_no_p99() {
        let slow = |p99_ms, p99_is_slowest, slowest_ms| {
            let mut outcome = served(1.0);
            if let Outcome::Served(sample) = &mut outcome {
                (sample.p99_ms, sample.slowest_ms) = (p99_ms, slowest_ms);
                sample.p99_is_slowest = p99_is_slowest;
            }
            outcome
        };
        let ratio = |ours, theirs| {
            let mut cell = measured("mlp-stream-c8", &[], Peer::Triton, vec![theirs]);
            cell.forebay = vec![ours];
            cell.ratio(Peer::Triton, Metric::P99).unwrap().median
        };
        let few = || slow(6.0, true, 6.0);
        let many = || slow(2.0, false, 12.0);
        assert!((ratio(many(), slow(4.0, false, 6.0)) - 0.5).abs() < 1e-12);
        assert!((ratio(many(), few()) - 2.0).abs() < 1e-12);
        assert!((ratio(few(), many()) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn an_even_number_of_values_has_its_median_between_them() {
        assert_eq!(Spread::of(vec![]), None);
        let spread = Spread::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap();
        assert!((spread.median - 2.5).abs() < 1e-12);
    }
}
