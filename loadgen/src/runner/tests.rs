use std::{future::pending, time::Duration};

use forebay_client::Code;

use super::{
    End, Finished, Limits, closed, open,
    scripted::{Queue, Scripted, flight, pace},
};
use crate::{
    clock,
    record::Outcome,
    schedule::{Arrivals, Plan, Schedule},
    stats::{QUANTILES, Quantile, Summary},
    target::Target,
};

pub(super) const LIMITS: Limits = Limits {
    max_in_flight: 100_000,
    timeout: Duration::from_secs(30),
    grace: Duration::from_secs(60),
};

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn plan(arrivals: Arrivals, rate: f64, seconds: u64) -> Plan {
    Plan {
        arrivals,
        rate,
        warmup: Duration::ZERO,
        duration: Some(Duration::from_secs(seconds)),
        requests: None,
        seed: 11,
    }
}

/// Runs `plan` against what `target` makes of the start of the run.
pub(super) async fn offer<T: Target>(
    plan: Plan,
    limits: Limits,
    target: impl FnOnce(std::time::Instant) -> T,
) -> Finished {
    let origin = clock::now();
    let schedule = Schedule::build(&plan).unwrap();
    let arrivals = pace(&schedule, origin);
    let finished = open::run(flight(target(origin), origin, limits), arrivals, pending()).await;
    assert_eq!(finished.offered, schedule.offsets().len() as u64);
    finished
}

fn summary(finished: &Finished) -> Summary {
    let summary = Summary::of(&finished.records, Duration::ZERO, None, LIMITS.timeout);
    summary.counts.check(finished.offered).unwrap();
    summary
}

fn seconds(summary: &Summary, quantile: Quantile) -> f64 {
    summary
        .response
        .percentile(quantile)
        .value
        .unwrap()
        .as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn one_stall_of_a_second_shows_in_every_request_that_it_delayed() {
    let [_, p90, p95, p99, ..] = QUANTILES;
    // Over many schedules, because each Poisson draw puts more or fewer arrivals in the stall.
    let mut all = crate::stats::Latencies::new();
    for seed in 0..20 {
        let plan = Plan {
            seed,
            ..plan(Arrivals::Poisson, 200.0, 5)
        };
        let finished = offer(plan, LIMITS, |origin| Scripted {
            origin,
            script: |_, sent| {
                // From 2 s to 3 s nothing is answered.
                let stalled = (ms(2000)..ms(3000)).contains(&sent);
                let took = if stalled {
                    ms(3000) - sent
                } else {
                    Duration::ZERO
                };
                (took + Duration::from_micros(500), Outcome::Ok)
            },
        })
        .await;
        all.merge(&summary(&finished).response);
    }
    for (quantile, expected) in [(p90, 0.50), (p95, 0.75), (p99, 0.95)] {
        let value = all.percentile(quantile).value.unwrap().as_secs_f64();
        assert!(
            (value / expected - 1.0).abs() < 0.05,
            "{} is {value}",
            quantile.name
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_that_holds_up_the_sends_counts_from_the_schedule() {
    // The runner itself is kept from sending: response shows it, service cannot.
    let origin = clock::now();
    let schedule = Schedule::build(&plan(Arrivals::Constant, 200.0, 5)).unwrap();
    let (late, arrivals) = tokio::sync::mpsc::channel(crate::pacer::CHANNEL);
    let mut paced = pace(&schedule, origin);
    tokio::spawn(async move {
        while let Some(arrival) = paced.recv().await {
            if arrival.intended == ms(2000) {
                tokio::time::sleep(ms(1000)).await;
            }
            late.send(arrival).await.unwrap();
        }
    });
    let target = Scripted {
        origin,
        script: |_, _| (ms(1), Outcome::Ok),
    };
    let finished = open::run(flight(target, origin, LIMITS), arrivals, pending()).await;
    let summary = summary(&finished);
    let [_, p90, _, p99, ..] = QUANTILES;
    assert!((seconds(&summary, p90) / 0.50 - 1.0).abs() < 0.05);
    assert!((seconds(&summary, p99) / 0.95 - 1.0).abs() < 0.05);
    assert!(summary.service.max().unwrap() < ms(3));
    assert!(summary.lag.max().unwrap() > ms(990));
}

#[tokio::test(start_paused = true)]
async fn an_overload_matches_the_fluid_limit() {
    // 300/s into 175/s: the wait after t seconds is t * (R/C - 1).
    let service = Duration::from_secs(1) / 175;
    let plan = plan(Arrivals::Poisson, 300.0, 20);
    let finished = offer(plan, LIMITS, |_| Queue::new(service)).await;
    let summary = summary(&finished);
    let [p50, ..] = QUANTILES;
    let expected = 10.0 * (300.0 / 175.0 - 1.0);
    let median = seconds(&summary, p50);
    assert!(
        (median / expected - 1.0).abs() < 0.05,
        "p50 {median}, fluid limit {expected}"
    );
    assert!((summary.backlog.growth_per_second / 125.0 - 1.0).abs() < 0.1);
    assert!(summary.backlog.grows(summary.counts.offered));
    let rate = summary.span.rate(summary.counts.ok).unwrap();
    assert!((rate / 175.0 - 1.0).abs() < 0.01, "{rate}");
}

#[tokio::test(start_paused = true)]
async fn forty_short_requests_report_their_true_throughput() {
    let origin = clock::now();
    let load = closed::Load {
        concurrency: 1,
        warmup: Duration::ZERO,
        duration: None,
        requests: Some(40),
        sequences: false,
    };
    let target = Scripted {
        origin,
        script: |_, _| (ms(2), Outcome::Ok),
    };
    let finished = closed::run(flight(target, origin, LIMITS), load, pending()).await;
    let summary = summary(&finished);
    assert_eq!(summary.counts.ok, 40);
    let rate = summary.span.rate(40).unwrap();
    // The timer's own millisecond between requests is part of the truth here.
    assert!((300.0..=500.0).contains(&rate), "{rate}");
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_cap_are_counted_and_not_skipped() {
    let limits = Limits {
        max_in_flight: 10,
        ..LIMITS
    };
    let finished = offer(plan(Arrivals::Constant, 100.0, 2), limits, |origin| {
        Scripted {
            origin,
            script: |_, _| (ms(500), Outcome::Ok),
        }
    })
    .await;
    let counts = summary(&finished).counts;
    assert_eq!(counts.offered, 200);
    // Ten go out in each half second.
    assert!((35..=50).contains(&counts.ok), "{counts:?}");
    assert_eq!(counts.not_sent, 200 - counts.ok);
}

#[tokio::test(start_paused = true)]
async fn what_is_unfinished_after_the_grace_counts_with_the_time_it_waited() {
    let limits = Limits {
        grace: ms(700),
        ..LIMITS
    };
    let finished = offer(plan(Arrivals::Constant, 100.0, 1), limits, |origin| {
        Scripted {
            origin,
            script: |number, _| (ms(if number < 90 { 5 } else { 60_000 }), Outcome::Ok),
        }
    })
    .await;
    let summary = summary(&finished);
    assert_eq!((summary.counts.ok, summary.counts.unfinished), (90, 10));
    assert!(summary.response.max().unwrap() >= ms(700 + 90));
    let [_, p90, p95, ..] = QUANTILES;
    assert!(!summary.response.percentile(p90).at_least);
    assert!(summary.response.percentile(p95).at_least);
}

#[tokio::test(start_paused = true)]
async fn timeouts_and_errors_never_improve_a_percentile() {
    let limits = Limits {
        timeout: ms(100),
        ..LIMITS
    };
    let offer = |bad: Outcome, took: u64| {
        offer(plan(Arrivals::Constant, 200.0, 5), limits, move |origin| {
            Scripted {
                origin,
                script: move |number, _| match number % 20 {
                    0 => (ms(took), bad),
                    _ => (ms(20), Outcome::Ok),
                },
            }
        })
    };
    let [_, p90, _, p99, ..] = QUANTILES;
    let rejected = summary(&offer(Outcome::Failed(Code::ResourceExhausted), 0).await);
    assert_eq!(rejected.counts.failures["RESOURCE_EXHAUSTED"], 50);
    assert!(!rejected.response.percentile(p90).at_least);
    assert!(rejected.response.percentile(p99).at_least);
    assert!(rejected.errors.max().unwrap() < ms(2));
    let late = summary(&offer(Outcome::Ok, 60_000).await);
    assert_eq!((late.counts.ok, late.counts.timed_out), (950, 50));
    // Those without an answer were handed over no later than others.
    assert_eq!((late.lag.samples(), late.held.samples()), (1000, 950));
    assert!(seconds(&late, p99) >= 0.1 && late.response.percentile(p99).at_least);
}

#[tokio::test(start_paused = true)]
async fn an_error_at_the_deadline_is_a_timeout_whatever_the_server_calls_it() {
    let limits = Limits {
        timeout: ms(100),
        ..LIMITS
    };
    let finished = offer(plan(Arrivals::Constant, 100.0, 1), limits, |origin| {
        Scripted {
            origin,
            script: |number, _| {
                let took = if number % 2 == 0 { 99 } else { 100 };
                (ms(took), Outcome::Failed(Code::Cancelled))
            },
        }
    })
    .await;
    let counts = summary(&finished).counts;
    assert_eq!((counts.failed, counts.timed_out), (50, 50));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_keeps_its_accounts() {
    let origin = clock::now();
    let schedule = Schedule::build(&plan(Arrivals::Poisson, 200.0, 60)).unwrap();
    let target = Scripted {
        origin,
        script: |_, _| (ms(30), Outcome::Ok),
    };
    let stop = tokio::time::sleep(ms(1000));
    let finished = open::run(
        flight(target, origin, LIMITS),
        pace(&schedule, origin),
        stop,
    )
    .await;
    assert_eq!(finished.end, End::Stopped);
    let counts = summary(&finished).counts;
    assert!(
        (150..250).contains(&counts.offered) && counts.ok == counts.offered,
        "{counts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_keeps_its_concurrency_and_its_end() {
    let origin = clock::now();
    let load = closed::Load {
        concurrency: 8,
        warmup: ms(500),
        duration: Some(ms(1000)),
        requests: None,
        sequences: false,
    };
    let target = Scripted {
        origin,
        script: |_, _| (ms(9), Outcome::Ok),
    };
    let finished = closed::run(flight(target, origin, LIMITS), load, pending()).await;
    assert!(
        finished
            .records
            .iter()
            .all(|record| record.intended < ms(1500))
    );
    let summary = Summary::of(&finished.records, ms(500), Some(ms(1000)), LIMITS.timeout);
    assert!(
        (7.0..=8.0).contains(&summary.backlog.mean),
        "{:?}",
        summary.backlog
    );
    assert!(summary.warmup >= 8 * 45);
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_gives_up_a_target_that_fails_at_once() {
    let load = closed::Load {
        concurrency: 8,
        warmup: Duration::ZERO,
        duration: Some(Duration::from_secs(60)),
        requests: None,
        sequences: false,
    };
    let run = |fails: fn(u64) -> bool| async move {
        let origin = clock::now();
        let target = Scripted {
            origin,
            script: move |number, _| match fails(number) {
                true => (Duration::ZERO, Outcome::Failed(Code::Unavailable)),
                false => (ms(100), Outcome::Ok),
            },
        };
        closed::run(flight(target, origin, LIMITS), load, pending()).await
    };
    let dead = run(|number| number >= 100).await;
    assert_eq!(dead.end, End::GivenUp(closed::FAILURES));
    let counts = summary(&dead).counts;
    assert_eq!(counts.ok, 100);
    assert!(counts.failed < closed::FAILURES + 8, "{counts:?}");
    // One answer in ten keeps a run going, however many fail in all.
    let shedding = run(|number| number % 10 != 0).await;
    assert_eq!(shedding.end, End::Complete);
    assert!(summary(&shedding).counts.failed > 2 * closed::FAILURES);
}

#[tokio::test(start_paused = true)]
async fn sequences_take_their_steps_in_order_and_share_no_number() {
    use std::sync::{Arc, Mutex};

    use crate::target::{Answer, Place, Shot};

    struct Log(Arc<Mutex<Vec<Place>>>);
    impl Target for Log {
        async fn send(&self, shot: Shot) -> Answer {
            let sent = clock::now();
            self.0.lock().unwrap().push(shot.place.unwrap());
            tokio::time::sleep(ms(1 + shot.number % 3)).await;
            Answer {
                sent: Some(sent),
                first: None,
                done: clock::now(),
                outcome: Outcome::Ok,
                stages: None,
            }
        }
    }

    let log = Arc::new(Mutex::new(Vec::new()));
    let load = closed::Load {
        concurrency: 5,
        warmup: Duration::ZERO,
        duration: None,
        requests: Some(200),
        sequences: true,
    };
    let flight = flight(Log(log.clone()), clock::now(), LIMITS);
    closed::run(flight, load, pending()).await;
    let mut steps = std::collections::BTreeMap::<u64, Vec<Place>>::new();
    for place in log.lock().unwrap().iter() {
        steps.entry(place.sequence).or_default().push(*place);
    }
    assert!(steps.len() >= 200 / 8);
    for (sequence, places) in steps {
        assert!(
            sequence > 0 && places[0].start && places.len() <= 8,
            "{sequence}"
        );
        assert!(places.iter().skip(1).all(|place| !place.start));
        assert!(
            places
                .iter()
                .enumerate()
                .all(|(at, place)| place.end == (at == 7))
        );
    }
}
