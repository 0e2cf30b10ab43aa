//! Measures two forms of a model against each other: passes in turn, and their lower quartiles
//! compared, since what disturbs a pass only makes it longer.
//!
//! What is made up cannot show which form is faster for real data, but operations take the time
//! that their shapes call for. The time spent is bounded, save for the few passes that any verdict
//! needs, and ends early where the verdict is clear.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{Module, Plan, choice, stopwatch::Stopwatch};
use crate::{device::Location, model::Error, tensor::Placed};

/// For each batch size, unless the fewest passes take longer.
const BUDGET: Duration = Duration::from_millis(20);
/// Passes of each form.
const FEWEST: usize = 3;
const MOST: usize = 50;

/// What the fewest passes may take at a batch size above 1 that is measured.
const LONGEST: Duration = Duration::from_millis(40);

/// Where all passes of one form beat all of the other by this, more of them would not turn the
/// verdict.
const CLEAR: f64 = 0.03;
/// Passes of each form that are asked for that, and the time of all: what disturbs the machine
/// lengthens two short passes in a row, but hardly two long ones.
const CLEAR_PASSES: usize = 2;
const CLEAR_AFTER: Duration = Duration::from_millis(100);

/// Forms that differ by less than this are equally fast, as far as a short measurement can tell.
/// Then the one that is closer to what was saved stays.
const NOISE: f64 = 0.015;

/// How much faster the second form is, for each batch size measured.
#[derive(Debug, PartialEq)]
pub(super) struct Times(Vec<(usize, f64)>);

/// A form that is measured against the one held.
pub(super) struct Rival {
    pub(super) module: Module,
    /// What it gave last for one row.
    pub(super) answer: Vec<Placed>,
    /// What its first pass took.
    pub(super) first: Duration,
}

/// What a measurement found.
pub(super) struct Measured {
    pub(super) times: Times,
    /// What a pass over one row takes, of the form held and of the rival.
    pub(super) rows: [Duration; 2],
}

/// Measures `held` against `rival`, which have both run one row, at that and at as many as may come,
/// or as many as the time allows; at that only, where the rival has lost there.
pub(super) fn compare(
    plan: &Plan,
    held: &mut Module,
    rival: &mut Rival,
) -> Result<Measured, Error> {
    let rows = duel(plan, held, rival, 1)?;
    let mut times = Times(vec![(1, ratio(rows))]);
    let largest = largest(plan.signature.max_batch_size, rows[0].min(rows[1]));
    if largest > 1 && !times.rule_the_rival_out() {
        for module in [&mut *held, &mut rival.module] {
            // The first pass of a size makes what later ones find.
            pass(plan, module, largest, &Stopwatch::of_this_thread())?;
        }
        times
            .0
            .push((largest, ratio(duel(plan, held, rival, largest)?)));
    }
    Ok(Measured { times, rows })
}

/// Returns the largest batch, at most `max`, of which the fewest passes are short enough where a
/// pass over one row takes `pass`.
fn largest(max: usize, pass: Duration) -> usize {
    let passes = u32::try_from(2 * (FEWEST + 1)).unwrap_or(u32::MAX);
    let fitting = LONGEST.as_nanos() / (pass * passes).as_nanos().max(1);
    max.min(usize::try_from(fitting).unwrap_or(usize::MAX))
}

/// Returns what a pass of each form takes.
fn duel(
    plan: &Plan,
    held: &mut Module,
    rival: &mut Rival,
    rows: usize,
) -> Result<[Duration; 2], Error> {
    let watch = Stopwatch::of_this_thread();
    let mut times = [Vec::new(), Vec::new()];
    let began = Instant::now();
    while needs_more(&times, began.elapsed()) {
        // Each form goes first in every other round.
        let first = times[0].len() % 2;
        for which in [first, 1 - first] {
            if which == 0 {
                times[0].push(pass(plan, held, rows, &watch)?.0);
                continue;
            }
            let (took, answer) = pass(plan, &mut rival.module, rows, &watch)?;
            times[1].push(took);
            if rows == 1 {
                rival.answer = answer;
            }
        }
    }
    Ok(times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 4].max(Duration::from_nanos(1))
    }))
}

/// Returns how much faster the second is.
fn ratio([held, rival]: [Duration; 2]) -> f64 {
    held.div_duration_f64(rival)
}

/// Returns whether another pass of each form is to be run, where those so far took `spent` with all
/// that came between.
fn needs_more(times: &[Vec<Duration>; 2], spent: Duration) -> bool {
    let passes = times[0].len();
    let running: Duration = times.iter().flatten().sum();
    if passes >= CLEAR_PASSES && running >= CLEAR_AFTER && is_clear(times) {
        return false;
    }
    passes < FEWEST || (passes < MOST && spent < BUDGET)
}

/// Returns whether one form was faster in every pass, by more than chance.
fn is_clear([a, b]: &[Vec<Duration>; 2]) -> bool {
    let beats = |winner: &[Duration], loser: &[Duration]| {
        let (slowest, fastest) = (winner.iter().max(), loser.iter().min());
        slowest.zip(fastest).is_some_and(|(slowest, fastest)| {
            slowest.as_secs_f64() * (1.0 + CLEAR) < fastest.as_secs_f64()
        })
    };
    beats(a, b) || beats(b, a)
}

/// Runs a pass over `rows` rows, and returns what it took besides.
pub(super) fn pass(
    plan: &Plan,
    module: &mut Module,
    rows: usize,
    watch: &Stopwatch,
) -> Result<(Duration, Vec<Placed>), Error> {
    let inputs = choice::request(plan, rows)?;
    let forward = || plan.forward(|values| module.forward(values), inputs, Location::Host);
    let (answer, took) = watch.time(forward);
    Ok((took, answer?))
}

impl Times {
    /// Returns whether the rival is to be taken: it loses at no size, and gains at one.
    pub(super) fn favour_the_rival(&self) -> bool {
        let gains = |ratio: f64| ratio > 1.0 + NOISE;
        !self.rule_the_rival_out() && self.0.iter().any(|(_, ratio)| gains(*ratio))
    }

    /// Returns whether the rival loses at a size, so that no other could speak for it.
    fn rule_the_rival_out(&self) -> bool {
        let loses = |ratio: f64| ratio < 1.0 - NOISE;
        self.0.iter().any(|(_, ratio)| loses(*ratio))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (rows, ratio)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{ratio:.2} x at batch {rows}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_taken_that_loses_at_no_size_and_gains_at_one() {
        let favoured = |ratios: [f64; 2]| {
            let ratios = ratios.into_iter().enumerate();
            Times(ratios.collect()).favour_the_rival()
        };
        assert!(favoured([1.1, 1.0]) && favoured([0.99, 1.1]));
        assert!(!favoured([1.0, 1.01]));
        assert!(!favoured([1.4, 0.95]));
    }

    #[test]
    fn a_slow_model_is_measured_at_batches_that_the_time_allows() {
        assert_eq!(largest(64, Duration::from_micros(40)), 64);
        assert_eq!(largest(64, Duration::from_millis(1)), 5);
        assert_eq!(largest(64, Duration::from_millis(50)), 0);
        assert_eq!(largest(0, Duration::ZERO), 0);
    }

    #[test]
    fn a_clear_verdict_ends_the_measurement_and_an_unclear_one_goes_on() {
        let passes = |times: &[u64]| times.iter().copied().map(Duration::from_millis).collect();
        let needs = |a: &[u64], b: &[u64], spent| {
            needs_more(&[passes(a), passes(b)], Duration::from_millis(spent))
        };
        assert!(!needs(&[43, 44], &[38, 39], 164));
        assert!(!needs(&[38, 39], &[43, 44], 164));
        // One pass may have been disturbed.
        assert!(needs(&[43], &[38], 81));
        assert!(needs(&[43, 38], &[38, 39], 158));
        assert!(!needs(&[43, 38, 39], &[38, 39, 40], 236));
        // Short ones are easily disturbed together.
        assert!(needs(&[12, 13], &[10, 10], 45));
    }
}
