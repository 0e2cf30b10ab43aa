use forebay_client::Code;

use super::*;
use crate::record::{Outcome, Record};

const FAIR: Evidence = Evidence {
    open: true,
    end: End::Complete,
    max_in_flight: 64,
    cpu_share: Some(0.3),
    runner_thread: None,
    busiest_thread: None,
    shared_cores: None,
    streams_reopened: 0,
    served: Some(1000),
};

fn judge(evidence: Evidence, change: impl Fn(u64, &mut Record)) -> Verdict {
    let records: Vec<Record> = (0..1000)
        .map(|number| {
            let intended = Duration::from_millis(number * 2);
            let mut record = Record {
                number,
                intended,
                submitted: Some(intended),
                sent: Some(intended),
                first: None,
                done: intended + Duration::from_millis(5),
                outcome: Outcome::Ok,
                stages: None,
            };
            change(number, &mut record);
            record
        })
        .collect();
    let summary = Summary::of(&records, Duration::ZERO, None, Duration::from_secs(1));
    Verdict::of(&summary, &evidence)
}

#[test]
fn a_fair_run_is_valid_without_reasons() {
    let verdict = judge(FAIR, |_, _| {});
    assert_eq!((verdict.status, verdict.reasons.len()), (Status::Valid, 0));
}

#[test]
fn one_request_that_was_not_sent_makes_the_run_invalid() {
    let verdict = judge(FAIR, |number, record| {
        if number == 500 {
            record.outcome = Outcome::NotSent;
        }
    });
    assert_eq!(verdict.status, Status::Invalid);
    assert!(
        verdict.reasons[0].contains("1 of 1000 requests were not sent"),
        "{verdict:?}"
    );
}

#[test]
fn a_growing_backlog_makes_an_open_run_invalid_and_a_closed_one_not() {
    let slower = |_, record: &mut Record| record.done += record.intended;
    assert_eq!(judge(FAIR, slower).status, Status::Invalid);
    let closed = judge(
        Evidence {
            open: false,
            ..FAIR
        },
        slower,
    );
    assert_eq!(closed.status, Status::Valid);
    assert!(closed.notes[0].starts_with("closed: says nothing"));
}

#[test]
fn late_sends_and_a_busy_client_are_client_limited() {
    let late = judge(FAIR, |number, record| {
        if number.is_multiple_of(50) {
            let late = record.intended + Duration::from_millis(3);
            (record.submitted, record.sent) = (Some(late), Some(late));
        }
    });
    assert_eq!(late.status, Status::ClientLimited);
    let busy = judge(
        Evidence {
            cpu_share: Some(0.9),
            ..FAIR
        },
        |_, _| {},
    );
    assert_eq!(busy.status, Status::ClientLimited);
}

#[test]
fn requests_of_someone_else_are_noted() {
    assert!(judge(FAIR, |_, _| {}).notes.is_empty());
    let busy = judge(
        Evidence {
            served: Some(1500),
            ..FAIR
        },
        |_, _| {},
    );
    assert!(busy.notes[0].contains("another client"), "{busy:?}");
    let lost = judge(
        Evidence {
            served: Some(500),
            streams_reopened: 2,
            ..FAIR
        },
        |_, _| {},
    );
    assert!(lost.notes[0].contains("ended 2 times"), "{lost:?}");
    assert!(lost.notes[1].contains("failed on the way"), "{lost:?}");
}

#[test]
fn a_run_that_did_not_come_to_its_end_is_invalid_and_says_why() {
    for (end, why) in [
        (End::Stopped, "stopped before its end"),
        (End::GivenUp(1000), "given up after 1000 failures in a row"),
    ] {
        let verdict = judge(Evidence { end, ..FAIR }, |_, _| {});
        assert_eq!(verdict.status, Status::Invalid);
        assert!(verdict.reasons[0].contains(why), "{verdict:?}");
    }
}

#[test]
fn without_a_correct_answer_nothing_is_valid() {
    let verdict = judge(FAIR, |_, record| {
        record.outcome = Outcome::Failed(Code::Internal)
    });
    assert_eq!(verdict.status, Status::Invalid);
}

#[test]
fn what_is_held_back_once_it_was_handed_over_is_told_and_not_the_client() {
    let held = |number: u64, record: &mut Record| {
        if number.is_multiple_of(50) {
            record.sent = Some(record.intended + Duration::from_millis(3));
        }
    };
    let verdict = judge(FAIR, held);
    assert_eq!(verdict.status, Status::Valid, "{verdict:?}");
    assert!(
        verdict.notes[0].contains("held back for 3.00 ms"),
        "{verdict:?}"
    );
    let closed = Evidence {
        open: false,
        ..FAIR
    };
    assert_eq!(judge(closed, held).notes.len(), 1);
    // Both together leave no doubt.
    let busy = Evidence {
        busiest_thread: Some(ThreadShare {
            name: "tokio-rt-worker".to_owned(),
            share: 0.95,
        }),
        ..FAIR
    };
    let verdict = judge(busy, held);
    assert_eq!(verdict.status, Status::ClientLimited, "{verdict:?}");
    assert!(verdict.reasons[0].contains("--connections"), "{verdict:?}");
}

#[test]
fn one_thread_without_time_left_limits_the_client_where_nothing_relieves_it() {
    let busy = |name: &str| {
        Some(ThreadShare {
            name: name.to_owned(),
            share: 0.95,
        })
    };
    let runner = Evidence {
        open: false,
        cpu_share: Some(0.06),
        runner_thread: busy("loadgen"),
        busiest_thread: busy("loadgen"),
        ..FAIR
    };
    let verdict = judge(runner.clone(), |_, _| {});
    assert_eq!(verdict.status, Status::ClientLimited);
    assert!(verdict.reasons[0].contains("'loadgen'"), "{verdict:?}");
    assert_eq!(verdict.notes.len(), 1);
    // The same fact is told once.
    let all = Evidence {
        cpu_share: Some(0.95),
        ..runner
    };
    assert_eq!(judge(all, |_, _| {}).reasons.len(), 1);
    let worker = Evidence {
        busiest_thread: busy("tokio-rt-worker"),
        ..FAIR
    };
    let verdict = judge(worker, |_, _| {});
    assert_eq!(verdict.status, Status::Valid);
    assert!(
        verdict.notes[0].contains("'tokio-rt-worker'"),
        "{verdict:?}"
    );
}

#[test]
fn failures_at_the_end_of_an_open_loop_mean_that_the_target_is_gone() {
    let fails_from = |first: u64| {
        move |number: u64, record: &mut Record| {
            if number >= first {
                record.outcome = Outcome::Failed(Code::Unavailable);
            }
        }
    };
    let gone = judge(FAIR, fails_from(900));
    assert_eq!(gone.status, Status::Invalid);
    assert!(
        gone.reasons[0].contains("last 100 requests") && gone.reasons[0].contains("since 1.8 s"),
        "{gone:?}"
    );
    assert_eq!(judge(FAIR, fails_from(901)).status, Status::Valid);
    // Refusals that come in bursts end a run so too.
    let bursts = judge(FAIR, |number, record| {
        if number % 125 >= 25 {
            record.outcome = Outcome::Failed(Code::Unavailable);
        }
    });
    assert_eq!(bursts.status, Status::Valid, "{bursts:?}");
    // It has a rule of its own for that.
    let closed = Evidence {
        open: false,
        ..FAIR
    };
    assert_eq!(judge(closed, fails_from(900)).status, Status::Valid);
}
