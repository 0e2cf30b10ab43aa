//! Turns a schedule into arrivals, on a thread of its own.
//!
//! The runtime's timers tick in whole milliseconds, which is a request's whole latency here. A
//! thread waits for each absolute deadline instead. Invariant: a late arrival is handed over at
//! once and later deadlines stay where they are.

use std::{
    io,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::schedule::Schedule;

/// Arrivals that may wait for the runtime. A full channel holds the pacer up, which shows as lag.
pub const CHANNEL: usize = 1024;

/// The name of its thread.
pub const THREAD: &str = "lg-pacer";

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

/// A pacer at work.
#[derive(Debug)]
pub struct Pacer {
    /// What is due.
    pub arrivals: mpsc::Receiver<Arrival>,
    /// What waiting for it cost.
    pub spun: Spun,
}

/// The time that a pacer has spun so far: on a core, and for nothing but to be in time.
#[derive(Debug, Clone, Default)]
pub struct Spun(Arc<AtomicU64>);

impl Spun {
    /// Returns the time so far.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// Starts the thread [`THREAD`], which sends each arrival when it is due and ends after the last
/// one, or when the receiver is gone.
///
/// # Errors
/// The thread cannot be started.
pub fn start(schedule: Schedule, origin: Instant) -> io::Result<Pacer> {
    let (sender, arrivals) = mpsc::channel(CHANNEL);
    let spun = Spun::default();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let spin = if cores >= CORES_TO_SPIN {
        SPIN
    } else {
        Duration::ZERO
    };
    let account = spun.clone();
    thread::Builder::new()
        .name(THREAD.to_owned())
        .spawn(move || pace(&schedule, origin, spin, &sender, &account))?;
    Ok(Pacer { arrivals, spun })
}

fn pace(
    schedule: &Schedule,
    origin: Instant,
    spin: Duration,
    arrivals: &mpsc::Sender<Arrival>,
    spun: &Spun,
) {
    for (number, &intended) in (0..).zip(schedule.offsets()) {
        spun.add(wait_until(origin + intended, spin));
        if arrivals
            .blocking_send(Arrival { number, intended })
            .is_err()
        {
            return;
        }
    }
}

/// Waits until `deadline`, for the last `spin` of it awake, and returns how long that was.
fn wait_until(deadline: Instant, spin: Duration) -> Duration {
    // A sleep may end early, so the clock is asked again.
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left <= spin {
            break;
        }
        thread::sleep(left - spin);
    }
    let begin = Instant::now();
    let mut now = begin;
    while now < deadline {
        std::hint::spin_loop();
        now = Instant::now();
    }
    // Beyond that it was kept from its core.
    (now - begin).min(spin)
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
        let spun = Spun::default();
        let account = spun.clone();
        let pacer =
            thread::spawn(move || pace(&paced, origin, Duration::ZERO, &arrivals, &account));
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
        assert_eq!(spun.total(), Duration::ZERO);
        // Shifted by the stall, the last would come after 480 ms.
        assert!(
            origin.elapsed() < Duration::from_millis(400),
            "{:?}",
            origin.elapsed()
        );
    }

    #[test]
    fn what_is_spun_is_accounted_for() {
        let spun = Spun::default();
        let wait = Duration::from_millis(2);
        for _ in 0..3 {
            spun.add(wait_until(Instant::now() + wait, wait * 10));
        }
        // The first look at the clock may come late.
        assert!(spun.total() > wait && spun.total() <= wait * 60);
        let late = Instant::now();
        assert_eq!(wait_until(late, wait), Duration::ZERO);
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
        let spun = Spun::default();
        pace(&schedule, Instant::now(), Duration::ZERO, &arrivals, &spun);
    }
}
