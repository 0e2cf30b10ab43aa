//! Whether requests pile up.
//!
//! In an open loop a backlog that grows is what "more than the target sustains" means; percentiles
//! then say how long the run was and little else.

use std::time::Duration;

use crate::record::{Outcome, Record};

/// Moments at which requests in flight are counted.
const LOOKS: u32 = 50;

/// Requests in flight between the first and the last intended send.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Backlog {
    /// Their mean.
    pub mean: f64,
    /// Their largest count.
    pub peak: u64,
    /// How much they grow a second: the slope of the line that fits best.
    pub growth_per_second: f64,
    /// How much the line rises from start to end.
    pub growth: f64,
    /// How far the counts scatter around the line: the standard deviation from it.
    pub scatter: f64,
}

impl Backlog {
    /// Counts what was in flight, or should have been, from `start` to the last intended send: a
    /// request waits from its intended send on. Requests from before `start` count while they last.
    pub fn of(records: &[Record], start: Duration) -> Self {
        let offered = records
            .iter()
            .filter(|record| record.outcome != Outcome::NotSent);
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for record in offered {
            starts.push(record.intended);
            ends.push(record.done);
        }
        starts.sort_unstable();
        ends.sort_unstable();
        let Some(length) = starts.last().map(|last| last.saturating_sub(start)) else {
            return Self::default();
        };
        let looks: Vec<u64> = (1..=LOOKS)
            .map(|look| start + length * look / LOOKS)
            .map(|at| {
                let begun = starts.partition_point(|time| *time <= at);
                let ended = ends.partition_point(|time| *time <= at);
                begun.saturating_sub(ended) as u64
            })
            .collect();
        let mean = looks.iter().sum::<u64>() as f64 / f64::from(LOOKS);
        let per_look = slope(&looks, mean);
        let growth = per_look * f64::from(LOOKS);
        let seconds = length.as_secs_f64();
        Self {
            mean,
            peak: looks.iter().copied().max().unwrap_or_default(),
            growth_per_second: if seconds > 0.0 { growth / seconds } else { 0.0 },
            growth,
            scatter: scatter(&looks, mean, per_look),
        }
    }

    /// Returns whether the growth is more than the noise of a load that is sustained: it exceeds
    /// three times the scatter, 10 requests and 2 % of the `offered` ones. What was in flight at
    /// the start, after a warm-up of any length, plays no part in it.
    pub fn grows(&self, offered: u64) -> bool {
        self.growth > 3.0 * self.scatter
            && self.growth > 10.0
            && self.growth > offered as f64 * 0.02
    }
}

/// Returns the least-squares slope of `looks` over their positions.
fn slope(looks: &[u64], mean: f64) -> f64 {
    let middle = (looks.len() as f64 - 1.0) / 2.0;
    let (mut product, mut square) = (0.0, 0.0);
    for (position, &look) in looks.iter().enumerate() {
        let distance = position as f64 - middle;
        product += distance * (look as f64 - mean);
        square += distance * distance;
    }
    product / square
}

/// Returns the standard deviation of `looks` from the line through their mean with this slope.
fn scatter(looks: &[u64], mean: f64, slope: f64) -> f64 {
    let middle = (looks.len() as f64 - 1.0) / 2.0;
    let squares = looks.iter().enumerate().map(|(position, &look)| {
        let line = mean + slope * (position as f64 - middle);
        (look as f64 - line).powi(2)
    });
    (squares.sum::<f64>() / looks.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns 5 s of requests every 10 ms that take what `took` says of their intended time.
    fn requests(took: impl Fn(u64) -> u64) -> Vec<Record> {
        requests_of(5, took)
    }

    fn requests_of(seconds: u64, took: impl Fn(u64) -> u64) -> Vec<Record> {
        (0..seconds * 100)
            .map(|number| Record {
                number,
                intended: Duration::from_millis(number * 10),
                submitted: None,
                sent: None,
                first: None,
                done: Duration::from_millis(number * 10 + took(number * 10)),
                outcome: Outcome::Ok,
                stages: None,
            })
            .collect()
    }

    fn backlog(records: &[Record]) -> Backlog {
        Backlog::of(records, Duration::ZERO)
    }

    #[test]
    fn an_overload_grows_and_a_steady_load_does_not() {
        // Half of what arrives is served: 50 more are in flight each second.
        let overload = backlog(&requests(|at| at));
        assert!(
            (overload.growth_per_second - 50.0).abs() < 3.0,
            "{overload:?}"
        );
        assert!(overload.grows(500));
        let steady = backlog(&requests(|_| 45));
        assert!((4.0..6.0).contains(&steady.mean), "{steady:?}");
        assert!(!steady.grows(500));
    }

    #[test]
    fn an_overload_is_one_however_long_the_warm_up_let_it_grow() {
        for warmup in [1, 5, 15] {
            let records = requests_of(warmup + 10, |at| at);
            let overload = Backlog::of(&records, Duration::from_secs(warmup));
            assert!(
                (overload.growth - 500.0).abs() < 20.0 && overload.grows(1000),
                "{warmup} s: {overload:?}"
            );
        }
    }

    #[test]
    fn waves_of_a_load_that_is_sustained_are_no_growth() {
        // Every two seconds the answers slow down by one second.
        let waves = requests_of(15, |at| 500 + (at % 2000) / 2);
        let waves = Backlog::of(&waves, Duration::from_secs(5));
        assert!(waves.peak > 90 && !waves.grows(1000), "{waves:?}");
    }

    #[test]
    fn what_the_warm_up_left_in_flight_is_there_from_the_start() {
        // Each takes a second: 100 are in flight once the first second is over.
        let steady = Backlog::of(&requests(|_| 1000), Duration::from_secs(1));
        assert!(
            steady.growth.abs() < 2.0 && (99.0..102.0).contains(&steady.mean),
            "{steady:?}"
        );
    }

    #[test]
    fn one_stall_that_is_worked_off_is_no_growth() {
        for begin in [1000, 3000] {
            let end = begin + 1000;
            let stalled = backlog(&requests(|at| {
                if (begin..end).contains(&at) {
                    end - at
                } else {
                    3
                }
            }));
            assert!(stalled.peak > 90 && !stalled.grows(500), "{stalled:?}");
            // A late one tilts the line well above the other bounds.
            assert_eq!(stalled.growth > 20.0, begin == 3000, "{stalled:?}");
        }
    }
}
