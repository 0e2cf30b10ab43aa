//! When requests are meant to be sent: absolute offsets from the start, fixed before it.
//!
//! Invariant: a schedule is a function of its [`Plan`] and never changes once built. Being late
//! moves no later arrival. The hash in the report shows that two runs had the same arrivals.

use std::{fmt::Write as _, time::Duration};

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution, Exp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Arrivals that a schedule may hold; 16 bytes each.
pub const MAX_ARRIVALS: usize = 50_000_000;

/// How the gaps between arrivals are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Exponential gaps: many independent users.
    Poisson,
    /// Equal gaps: a machine.
    Constant,
}

/// What a schedule is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// How gaps are drawn.
    pub arrivals: Arrivals,
    /// Mean arrivals a second.
    pub rate: f64,
    /// Time at the start whose arrivals are sent but not measured.
    pub warmup: Duration,
    /// Time after the warm-up in which requests arrive; `None` leaves it to `requests`.
    pub duration: Option<Duration>,
    /// Arrivals after the warm-up; `None` leaves it to `duration`.
    pub requests: Option<u64>,
    /// The seed of the gaps.
    pub seed: u64,
}

/// Why a plan makes no schedule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a rate.
    #[error("a rate of {0} requests a second makes no schedule; give one above 0")]
    Rate(f64),
    /// Nothing ends the run.
    #[error("the schedule has no end; give a duration or a number of requests")]
    Endless,
    /// More arrivals than [`MAX_ARRIVALS`].
    #[error("the schedule has more than {MAX_ARRIVALS} arrivals; lower the rate or the duration")]
    TooLong,
}

/// Arrival times, as offsets from the start of the run, in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    offsets: Vec<Duration>,
}

impl Schedule {
    /// Draws the arrivals of `plan`.
    ///
    /// # Errors
    /// A rate that is not a positive number, no end, or too many arrivals.
    pub fn build(plan: &Plan) -> Result<Self, Error> {
        let gap = Exp::new(plan.rate).map_err(|_| Error::Rate(plan.rate))?;
        if !plan.rate.is_finite() || plan.rate <= 0.0 {
            return Err(Error::Rate(plan.rate));
        }
        if plan.duration.is_none() && plan.requests.is_none() {
            return Err(Error::Endless);
        }
        let end = plan
            .duration
            .map_or(Duration::MAX, |length| plan.warmup + length);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(plan.seed);
        let mut offsets = Vec::new();
        let (mut seconds, mut measured) = (0.0f64, 0u64);
        loop {
            // Counting periods instead of adding them keeps rounding from piling up.
            seconds = match plan.arrivals {
                Arrivals::Poisson => seconds + gap.sample(&mut rng),
                Arrivals::Constant => offsets.len() as f64 / plan.rate,
            };
            let Ok(at) = Duration::try_from_secs_f64(seconds) else {
                return Err(Error::TooLong);
            };
            if at >= end || plan.requests.is_some_and(|limit| measured >= limit) {
                return Ok(Self { offsets });
            }
            if offsets.len() == MAX_ARRIVALS {
                return Err(Error::TooLong);
            }
            measured += u64::from(at >= plan.warmup);
            offsets.push(at);
        }
    }

    /// Returns the offsets.
    pub fn offsets(&self) -> &[Duration] {
        &self.offsets
    }

    /// Returns the SHA-256 of the offsets in nanoseconds, each a little-endian `u64`, in hex.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for at in &self.offsets {
            let nanos = at.as_secs() * 1_000_000_000 + u64::from(at.subsec_nanos());
            hash.update(nanos.to_le_bytes());
        }
        let mut text = String::with_capacity(64);
        for byte in hash.finalize() {
            write!(text, "{byte:02x}").expect("a String takes any text");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAN: Plan = Plan {
        arrivals: Arrivals::Poisson,
        rate: 500.0,
        warmup: Duration::from_secs(1),
        duration: Some(Duration::from_secs(4)),
        requests: None,
        seed: 7,
    };

    #[test]
    fn the_same_plan_gives_the_same_arrivals_and_another_seed_others() {
        let schedule = Schedule::build(&PLAN).unwrap();
        let again = Schedule::build(&PLAN).unwrap();
        let other = Schedule::build(&Plan { seed: 8, ..PLAN }).unwrap();
        assert_eq!(schedule.sha256(), again.sha256());
        assert_ne!(schedule.sha256(), other.sha256());
        assert_eq!(schedule.sha256().len(), 64);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let schedule = Schedule::build(&Plan {
            duration: None,
            requests: Some(20_000),
            ..PLAN
        });
        let schedule = schedule.unwrap();
        let gaps: Vec<f64> = schedule
            .offsets()
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean * 500.0 - 1.0).abs() < 0.03, "mean gap {mean}");
        assert!(
            (spread.sqrt() / mean - 1.0).abs() < 0.05,
            "deviation {spread}"
        );
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        let plan = Plan {
            arrivals: Arrivals::Constant,
            rate: 300.0,
            warmup: Duration::ZERO,
            duration: Some(Duration::from_secs(100)),
            ..PLAN
        };
        let schedule = Schedule::build(&plan).unwrap();
        assert_eq!(schedule.offsets().len(), 30_000);
        assert_eq!(schedule.offsets()[29_700], Duration::from_secs(99));
    }

    #[test]
    fn refuses_plans_without_rate_or_end() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                Schedule::build(&Plan { rate, ..PLAN }),
                Err(Error::Rate(_))
            ));
        }
        let endless = Plan {
            duration: None,
            ..PLAN
        };
        assert_eq!(Schedule::build(&endless), Err(Error::Endless));
    }

    proptest! {
        #[test]
        fn arrivals_ascend_and_respect_both_limits(
            seed: u64, rate in 1.0..2000.0f64, millis in 0u64..800, requests in proptest::option::of(0u64..300),
            poisson: bool,
        ) {
            let plan = Plan {
                arrivals: if poisson { Arrivals::Poisson } else { Arrivals::Constant },
                rate,
                warmup: Duration::from_millis(100),
                duration: Some(Duration::from_millis(millis)),
                requests,
                seed,
            };
            let schedule = Schedule::build(&plan).unwrap();
            let offsets = schedule.offsets();
            prop_assert!(offsets.is_sorted());
            prop_assert!(offsets.iter().all(|at| *at < plan.warmup + Duration::from_millis(millis)));
            let measured = offsets.iter().filter(|at| **at >= plan.warmup).count() as u64;
            prop_assert!(requests.is_none_or(|limit| measured <= limit));
        }
    }
}
