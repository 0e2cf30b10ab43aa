//! The closed loop: a number of requests in flight, each followed by the next when it ends.
//!
//! It measures capacity. It says nothing about latency at a rate, because a slow target is asked
//! less often.

use std::{pin::pin, time::Duration};

use tokio::time;

use super::{End, Finished, Flight};
use crate::{
    pacer::Arrival,
    target::{Place, Target},
};

/// Requests in one sequence.
pub const SEQUENCE_LENGTH: u64 = 8;

/// Failures in a row after which the target counts as gone. A closed loop has no other brake: where
/// requests fail at once, nothing but the speed of this machine says how many there are.
pub const FAILURES: u64 = 1000;

/// How long, and how much at once.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Requests in flight.
    pub concurrency: usize,
    /// Time at the start whose requests are not measured.
    pub warmup: Duration,
    /// Time after the warm-up; `None` leaves it to `requests`.
    pub duration: Option<Duration>,
    /// Requests after the warm-up; `None` leaves it to `duration`.
    pub requests: Option<u64>,
    /// Whether the requests of each slot form sequences, [`SEQUENCE_LENGTH`] each.
    pub sequences: bool,
}

/// Keeps `load.concurrency` requests in flight until the load's end, until `stop` resolves or until
/// [`FAILURES`] requests have failed without a correct answer between them, then drains.
pub async fn run<T: Target>(
    mut flight: Flight<T>,
    load: Load,
    stop: impl Future<Output = ()>,
) -> Finished {
    let mut stop = pin!(stop);
    let end = load
        .duration
        .map_or(Duration::MAX, |length| load.warmup + length);
    let mut idle: Vec<usize> = (0..load.concurrency).rev().collect();
    let mut sequences = vec![0u64; load.concurrency];
    let (mut number, mut measured) = (0, 0);
    let ended = loop {
        while let Some(slot) = idle.pop() {
            let intended = flight.elapsed();
            if intended >= end || load.requests.is_some_and(|limit| measured >= limit) {
                break;
            }
            measured += u64::from(intended >= load.warmup);
            let place = load
                .sequences
                .then(|| place(slot, load.concurrency, &mut sequences[slot]));
            flight.launch(Arrival { number, intended }, slot, place);
            number += 1;
        }
        let left = end.saturating_sub(flight.elapsed());
        tokio::select! {
            biased;
            () = &mut stop => break End::Stopped,
            () = time::sleep(left) => break End::Complete,
            slot = flight.land() => match slot {
                Some(slot) => {
                    let failures = flight.failures_in_a_row();
                    if failures >= FAILURES {
                        break End::GivenUp(failures);
                    }
                    idle.push(slot);
                }
                None => break End::Complete,
            },
        }
    };
    flight.finish(ended).await
}

/// Returns the next place of a slot, whose sequences never share a number with another slot's.
fn place(slot: usize, slots: usize, issued: &mut u64) -> Place {
    let (round, step) = (*issued / SEQUENCE_LENGTH, *issued % SEQUENCE_LENGTH);
    *issued += 1;
    Place {
        sequence: round * slots as u64 + slot as u64 + 1,
        start: step == 0,
        end: step + 1 == SEQUENCE_LENGTH,
    }
}
