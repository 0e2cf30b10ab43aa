//! Tests on the real clock.

use std::{future::pending, sync::Arc, time::Duration};

use forebay_client::{DataType, ModelMetadata, TensorMetadata};
use tokio::sync::watch;

use super::{Flight, Limits, Setup, open};
use crate::{
    clock, pacer,
    payload::{Options, Pool},
    progress::Progress,
    record::Outcome,
    schedule::{Arrivals, Plan, Schedule},
    target::{Answer, Shot, Target},
};

/// Takes requests from a pool as the real target does, and answers them itself.
struct Taker(Pool);

impl Target for Taker {
    async fn send(&self, shot: Shot) -> Answer {
        let request = self.0.request(shot.number, shot.place);
        assert!(request.bytes() > 0);
        let sent = clock::now();
        Answer {
            sent: Some(sent),
            first: None,
            done: sent,
            outcome: Outcome::Ok,
            stages: None,
        }
    }
}

/// Returns the gaps between sends of requests of `elements` FP32 each, in order of size.
async fn gaps(elements: i64) -> Vec<Duration> {
    let model = ModelMetadata {
        name: "m".to_owned(),
        versions: vec![],
        platform: String::new(),
        inputs: vec![TensorMetadata {
            name: "x".to_owned(),
            datatype: DataType::Fp32,
            shape: vec![elements],
        }],
        outputs: vec![],
    };
    let options = Options {
        variants: 4,
        ..Options::default()
    };
    let target = Arc::new(Taker(Pool::build(&model, &options).unwrap()));
    // Half a millisecond apart: making a mebibyte of random numbers takes longer.
    let schedule = Schedule::build(&Plan {
        arrivals: Arrivals::Constant,
        rate: 2000.0,
        warmup: Duration::ZERO,
        duration: None,
        requests: Some(600),
        seed: 0,
    })
    .unwrap();
    let origin = clock::now();
    let arrivals = pacer::start(schedule, origin).unwrap().arrivals;
    let limits = Limits {
        max_in_flight: 1000,
        timeout: Duration::from_secs(10),
        grace: Duration::from_secs(10),
    };
    let progress = watch::Sender::new(Progress::default());
    let flight = Flight::new(Setup {
        target,
        limits,
        origin,
        progress,
    });
    let finished = open::run(flight, arrivals, pending()).await;
    let mut sent: Vec<Duration> = finished
        .records
        .iter()
        .filter_map(|record| record.sent)
        .collect();
    sent.sort_unstable();
    let mut gaps: Vec<Duration> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    gaps
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_gap_between_sends_does_not_depend_on_the_size_of_tensors() {
    let (small, large) = (gaps(4).await, gaps(1 << 18).await);
    let median = |gaps: &[Duration]| gaps[gaps.len() / 2].as_secs_f64() * 1e6;
    let total = |gaps: &[Duration]| gaps.iter().sum::<Duration>().as_secs_f64() * 1e3;
    let (small_us, large_us) = (median(&small), median(&large));
    // What grows with the size would grow by far more than what a busy machine adds.
    assert!(
        (0.5..2.0).contains(&(large_us / small_us)),
        "16 B: {small_us} us, 1 MiB: {large_us} us"
    );
    // 599 gaps of half a millisecond, whatever their size.
    for gaps in [&small, &large] {
        assert!((total(gaps) - 299.5).abs() < 100.0, "{} ms", total(gaps));
    }
}
