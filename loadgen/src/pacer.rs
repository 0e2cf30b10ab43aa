//! Turns a schedule into arrivals, on a thread of its own.
//!
//! The runtime's timers tick in whole milliseconds, which is a request's whole latency here. A
//! thread waits for each absolute deadline instead. Invariant: a late arrival is handed over at
//! once and later deadlines stay where they are.

use std::{
    io,
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::schedule::Schedule;

/// Arrivals that may wait for the runtime. A full channel holds the pacer up, which shows as lag.
pub const CHANNEL: usize = 1024;

/// How long before a deadline the thread stops sleeping and spins, where there are cores to spare.
/// A sleeping thread wakes 50 to 100 us late.
const SPIN: Duration = Duration::from_micros(200);

/// Cores from which on spinning does not steal time from a server on the same machine.
const CORES_TO_SPIN: usize = 4;

/// A request that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its place in the schedule, from 0.
    pub number: u64,
    /// When it is meant to be sent, from the start of the run.
    pub intended: Duration,
}

/// Starts the thread `lg-pacer`, which sends each arrival when it is due and ends after the last
/// one, or when the receiver is gone.
///
/// # Errors
/// The thread cannot be started.
pub fn start(schedule: Schedule, origin: Instant) -> io::Result<mpsc::Receiver<Arrival>> {
    let (arrivals, receiver) = mpsc::channel(CHANNEL);
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let spin = if cores >= CORES_TO_SPIN {
        SPIN
    } else {
        Duration::ZERO
    };
    thread::Builder::new()
        .name("lg-pacer".to_owned())
        .spawn(move || pace(&schedule, origin, spin, &arrivals))?;
    Ok(receiver)
}

fn pace(schedule: &Schedule, origin: Instant, spin: Duration, arrivals: &mpsc::Sender<Arrival>) {
    for (number, &intended) in (0..).zip(schedule.offsets()) {
        wait_until(origin + intended, spin);
        if arrivals
            .blocking_send(Arrival { number, intended })
            .is_err()
        {
            return;
        }
    }
}

fn wait_until(deadline: Instant, spin: Duration) {
    // A sleep may end early, so the clock is asked again.
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left <= spin {
            break;
        }
        thread::sleep(left - spin);
    }
    while Instant::now() < deadline {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod timing {
    use super::*;
    use crate::schedule::{Arrivals, Plan};

    #[test]
    fn no_arrival_is_early_and_none_moves_because_another_was_late() {
        let plan = Plan {
            arrivals: Arrivals::Constant,
            rate: 1000.0,
            warmup: Duration::ZERO,
            duration: Some(Duration::from_millis(300)),
            requests: None,
            seed: 0,
        };
        let schedule = Schedule::build(&plan).unwrap();
        // Room for one, so that a reader that stalls holds the pacer up.
        let (arrivals, mut receiver) = mpsc::channel(1);
        let origin = Instant::now();
        let paced = schedule.clone();
        let pacer = thread::spawn(move || pace(&paced, origin, Duration::ZERO, &arrivals));
        for (number, &intended) in (0..).zip(schedule.offsets()) {
            let arrival = receiver.blocking_recv().unwrap();
            assert!(origin.elapsed() >= arrival.intended);
            assert_eq!(arrival, Arrival { number, intended });
            if number == 20 {
                wait_until(origin + Duration::from_millis(200), Duration::ZERO);
            }
        }
        assert_eq!(receiver.blocking_recv(), None);
        pacer.join().unwrap();
        // Shifted by the stall, the last would come after 480 ms.
        assert!(
            origin.elapsed() < Duration::from_millis(400),
            "{:?}",
            origin.elapsed()
        );
    }

    #[test]
    fn the_thread_ends_when_nobody_listens() {
        let plan = Plan {
            arrivals: Arrivals::Constant,
            rate: 1000.0,
            warmup: Duration::ZERO,
            duration: Some(Duration::from_secs(3600)),
            requests: None,
            seed: 0,
        };
        let schedule = Schedule::build(&plan).unwrap();
        let (arrivals, receiver) = mpsc::channel(1);
        drop(receiver);
        // Returns at once, not in an hour.
        pace(&schedule, Instant::now(), Duration::ZERO, &arrivals);
    }
}
