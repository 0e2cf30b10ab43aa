//! The run over time, cut into equal windows.

use std::time::Duration;

use super::{Latencies, QUANTILES};
use crate::record::{Outcome, Record};

/// Windows that a plot has room for.
const MOST: u32 = 60;

/// One window, warm-up included.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Its start.
    pub start: Duration,
    /// Requests meant to be sent in it.
    pub offered: u64,
    /// Correct answers that ended in it.
    pub ok: u64,
    /// Requests meant to be sent in it that got no correct answer.
    pub failed: u64,
    /// The median response of the requests meant to be sent in it.
    pub p50: Option<Duration>,
    /// Their p99.
    pub p99: Option<Duration>,
    /// Their slowest response.
    pub max: Option<Duration>,
}

/// Cuts `records` into windows of the width that is returned too: 0.1 s times 1, 2, 5, 10, ...
pub fn windows(records: &[Record]) -> (Duration, Vec<Window>) {
    let end = records
        .iter()
        .map(|record| record.done.max(record.intended))
        .max();
    let width = width(end.unwrap_or_default());
    let index =
        |at: Duration| usize::try_from(at.as_nanos() / width.as_nanos()).unwrap_or(usize::MAX);
    let count = end.map_or(0, |end| index(end) + 1);
    let mut latencies: Vec<Option<Box<Latencies>>> = vec![None; count];
    let mut windows: Vec<Window> = (0..u32::try_from(count).unwrap_or(MOST))
        .map(|position| Window {
            start: width * position,
            offered: 0,
            ok: 0,
            failed: 0,
            p50: None,
            p99: None,
            max: None,
        })
        .collect();
    for record in records {
        let offered = index(record.intended);
        windows[offered].offered += 1;
        let times = latencies[offered].get_or_insert_default();
        match record.outcome {
            Outcome::Ok => {
                windows[index(record.done)].ok += 1;
                times.record(record.response());
            }
            outcome => {
                windows[offered].failed += 1;
                match outcome {
                    Outcome::TimedOut | Outcome::Unfinished => {
                        times.record_at_least(record.response())
                    }
                    _ => times.record_never(),
                }
            }
        }
    }
    let [p50, _, _, p99, ..] = QUANTILES;
    for (window, times) in windows.iter_mut().zip(latencies) {
        let Some(times) = times else { continue };
        window.p50 = times.percentile(p50).value;
        window.p99 = times.percentile(p99).value;
        window.max = times.max();
    }
    (width, windows)
}

fn width(length: Duration) -> Duration {
    let mut decade = Duration::from_millis(100);
    loop {
        for width in [decade, decade * 2, decade * 5] {
            if length <= width * MOST {
                return width;
            }
        }
        decade *= 10;
    }
}

#[cfg(test)]
mod tests {
    use forebay_client::Code;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn widths_are_round_and_few() {
        let seconds = |length| width(Duration::from_secs(length)).as_secs_f64();
        let widths = [1, 6, 7, 12, 30, 31, 500, 3600].map(seconds);
        assert_eq!(widths, [0.1, 0.1, 0.2, 0.2, 0.5, 1.0, 10.0, 100.0]);
    }

    proptest! {
        // Each case scans histograms of 250 KiB, slowly without optimization.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn windows_hold_every_request_once(
            ends in proptest::collection::vec((0u64..30_000, 0u64..5_000, any::<bool>()), 0..100)
        ) {
            let records: Vec<Record> = ends.iter().zip(0..).map(|(&(at, took, ok), number)| Record {
                number,
                intended: Duration::from_millis(at),
                submitted: None,
                sent: None,
                first: None,
                done: Duration::from_millis(at + took),
                outcome: if ok { Outcome::Ok } else { Outcome::Failed(Code::Internal) },
                stages: None,
            }).collect();
            let (_, windows) = windows(&records);
            prop_assert!(windows.len() <= 61);
            prop_assert_eq!(windows.iter().map(|window| window.offered).sum::<u64>(), records.len() as u64);
            let ok = records.iter().filter(|record| record.outcome == Outcome::Ok).count() as u64;
            prop_assert_eq!(windows.iter().map(|window| window.ok).sum::<u64>(), ok);
            prop_assert_eq!(windows.iter().map(|window| window.failed).sum::<u64>(), records.len() as u64 - ok);
        }
    }
}
