//! Tests of what is made of whole runs, on the virtual clock: their throughput and their verdict.

use std::{future::pending, time::Duration};

use forebay_client::Code;
use tokio::{sync::mpsc, time};

use super::{
    End, Finished, closed, open,
    scripted::{Queue, Scripted, flight, pace},
    tests::{LIMITS, ms, offer, plan},
};
use crate::{
    clock,
    pacer::CHANNEL,
    record::Outcome,
    schedule::{Arrivals, Schedule},
    stats::{Basis, Offering, Summary, Throughput},
    target::{Answer, Shot, Target},
    verdict::{Evidence, Status, Verdict},
};

fn loop_of(concurrency: usize, warmup: Duration, duration: Duration) -> closed::Load {
    closed::Load {
        concurrency,
        warmup,
        duration: Some(duration),
        requests: None,
        sequences: false,
    }
}

fn throughput(finished: &Finished, load: closed::Load) -> Throughput {
    let closed::Load {
        warmup,
        duration,
        requests,
        ..
    } = load;
    let summary = Summary::of(&finished.records, warmup, duration, LIMITS.timeout);
    let offering = Offering {
        open: false,
        warmup,
        duration,
        requests,
        arrivals_ended: finished.arrivals_ended,
        end: finished.end,
    };
    Throughput::of(&summary, &offering)
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_is_credited_with_what_ended_in_its_window() {
    // 64 in flight, 32 a second: each takes two seconds, those of the warm-up and of the drain too.
    let load = loop_of(64, ms(4000), ms(10_000));
    let target = Queue::new(Duration::from_secs(1) / 32);
    let finished = closed::run(flight(target, clock::now(), LIMITS), load, pending()).await;
    let found = throughput(&finished, load);
    assert_eq!((found.basis, found.over), (Basis::Window, ms(10_000)));
    let rate = found.answered.unwrap();
    assert!((rate / 32.0 - 1.0).abs() < 0.03, "{rate}");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_was_not_offered_whole_has_no_rate() {
    let fast = || {
        let origin = clock::now();
        let target = Scripted {
            origin,
            script: |_, _| (ms(7), Outcome::Ok),
        };
        flight(target, origin, LIMITS)
    };
    // A thousand requests, of which eight take eight milliseconds, are over after a second.
    let load = closed::Load {
        requests: Some(1000),
        ..loop_of(8, Duration::ZERO, ms(60_000))
    };
    let used_up = closed::run(fast(), load, pending()).await;
    assert_eq!(used_up.end, End::Complete);
    let found = throughput(&used_up, load);
    assert_eq!((found.in_window, found.basis), (None, Basis::Span));
    let rate = found.answered.unwrap();
    assert!((900.0..1200.0).contains(&rate), "{rate}");

    let load = loop_of(8, Duration::ZERO, ms(60_000));
    let stopped = closed::run(fast(), load, time::sleep(ms(1000))).await;
    assert_eq!(stopped.end, End::Stopped);
    assert_eq!(throughput(&stopped, load).in_window, None);
    let whole = loop_of(8, Duration::ZERO, ms(1000));
    let finished = closed::run(fast(), whole, pending()).await;
    let rate = throughput(&finished, whole).in_window.unwrap();
    assert!((900.0..1200.0).contains(&rate), "{rate}");
}

/// Judges an open loop of which nothing else is known.
fn judge(finished: &Finished) -> Verdict {
    let summary = Summary::of(&finished.records, Duration::ZERO, None, LIMITS.timeout);
    let evidence = Evidence {
        open: true,
        end: finished.end,
        max_in_flight: LIMITS.max_in_flight,
        cpu_share: None,
        runner_thread: None,
        busiest_thread: None,
        shared_cores: None,
        streams_reopened: 0,
        served: None,
    };
    Verdict::of(&summary, &evidence)
}

/// Lets each request wait before it takes it, as a server does that does not read.
struct Reluctant;

impl Target for Reluctant {
    async fn send(&self, _shot: Shot) -> Answer {
        time::sleep(ms(50)).await;
        let sent = clock::now();
        time::sleep(ms(5)).await;
        Answer {
            sent: Some(sent),
            first: None,
            done: clock::now(),
            outcome: Outcome::Ok,
            stages: None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_takes_requests_late_does_not_limit_the_client() {
    let finished = offer(plan(Arrivals::Constant, 200.0, 5), LIMITS, |_| Reluctant).await;
    let verdict = judge(&finished);
    assert_eq!(verdict.status, Status::Valid, "{verdict:?}");
    assert!(verdict.notes[0].contains("held back for 5"), "{verdict:?}");
    let records = finished.records;
    let summary = Summary::of(&records, Duration::ZERO, None, LIMITS.timeout);
    assert!(summary.held.min().unwrap() > ms(49) && summary.lag.max().unwrap() < ms(3));
    assert!(summary.response.min().unwrap() > ms(54));
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_is_late_limits_the_client() {
    let origin = clock::now();
    let schedule = Schedule::build(&plan(Arrivals::Constant, 200.0, 5)).unwrap();
    let mut paced = pace(&schedule, origin);
    let (late, arrivals) = mpsc::channel(CHANNEL);
    tokio::spawn(async move {
        while let Some(arrival) = paced.recv().await {
            if arrival.number % 20 == 0 {
                time::sleep(ms(4)).await;
            }
            late.send(arrival).await.unwrap();
        }
    });
    let target = Scripted {
        origin,
        script: |_, _| (ms(1), Outcome::Ok),
    };
    let finished = open::run(flight(target, origin, LIMITS), arrivals, pending()).await;
    let verdict = judge(&finished);
    assert_eq!(verdict.status, Status::ClientLimited, "{verdict:?}");
    assert!(
        verdict.reasons[0].contains("the client was late"),
        "{verdict:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_target_that_dies_makes_an_open_loop_invalid_and_one_that_sheds_does_not() {
    let run = |fails: fn(u64) -> bool| {
        offer(plan(Arrivals::Constant, 100.0, 5), LIMITS, move |origin| {
            Scripted {
                origin,
                script: move |number, _| match fails(number) {
                    true => (Duration::ZERO, Outcome::Failed(Code::Unavailable)),
                    false => (ms(2), Outcome::Ok),
                },
            }
        })
    };
    let dead = judge(&run(|number| number >= 100).await);
    assert_eq!(dead.status, Status::Invalid, "{dead:?}");
    assert!(
        dead.reasons[0].contains("last 400 requests") && dead.reasons[0].contains("since 1.0 s"),
        "{dead:?}"
    );
    let shedding = judge(&run(|number| number % 10 != 0).await);
    assert_eq!(shedding.status, Status::Valid, "{shedding:?}");
}
