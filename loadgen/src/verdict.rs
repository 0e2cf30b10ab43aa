//! Whether the numbers of a run may be believed, and if not, why.

use std::{fmt, process::ExitCode, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    runner::End,
    stats::{QUANTILES, Summary},
};

/// The lag that is always allowed at p99.
const LAG: Duration = Duration::from_millis(1);

/// The share of the p99 response that lag may be.
const LAG_SHARE: f64 = 0.05;

/// The share of its cores above which the client measures itself.
const CPU_SHARE: f64 = 0.8;

/// How far the numbers may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum Status {
    /// They describe the target.
    Valid,
    /// They describe the client as much as the target.
    ClientLimited,
    /// They describe neither.
    Invalid,
}

/// A judgement and its grounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The judgement.
    pub status: Status,
    /// Why it is not VALID; empty if it is.
    pub reasons: Vec<String>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

/// What is judged besides the summary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Whether requests were sent by a schedule.
    pub open: bool,
    /// Why the run ended.
    pub end: End,
    /// The requests that were allowed in flight.
    pub max_in_flight: usize,
    /// The share of its cores that the client used, where known.
    pub cpu_share: Option<f64>,
    /// The cores of the machine, if client and server share it.
    pub shared_cores: Option<usize>,
    /// Streams that ended before the run did, and were opened again.
    pub streams_reopened: u64,
    /// The requests that the server counted in the measured part, where it tells.
    pub served: Option<u64>,
}

impl Verdict {
    /// Judges a run.
    pub fn of(summary: &Summary, evidence: &Evidence) -> Self {
        let invalid = invalid(summary, evidence);
        let limited = limited(summary, evidence);
        let status = match (invalid.is_empty(), limited.is_empty()) {
            (false, _) => Status::Invalid,
            (true, false) => Status::ClientLimited,
            (true, true) => Status::Valid,
        };
        Self {
            status,
            reasons: [invalid, limited].concat(),
            notes: notes(summary, evidence),
        }
    }

    /// Returns the code the process ends with: 0 for VALID, 2 for INVALID, 3 for CLIENT-LIMITED. 1
    /// is left to runs that could not be made.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.status {
            Status::Valid => 0,
            Status::Invalid => 2,
            Status::ClientLimited => 3,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "VALID",
            Self::ClientLimited => "CLIENT-LIMITED",
            Self::Invalid => "INVALID",
        })
    }
}

fn invalid(summary: &Summary, evidence: &Evidence) -> Vec<String> {
    let counts = &summary.counts;
    let mut reasons = Vec::new();
    match evidence.end {
        End::Complete => {}
        End::Stopped => reasons.push("the run was stopped before its end".to_owned()),
        End::GivenUp(failures) => reasons.push(format!(
            "the run was given up after {failures} failures in a row; see whether the server is up \
             and takes these requests"
        )),
    }
    if counts.ok == 0 {
        reasons.push("no request got a correct answer".to_owned());
    }
    if counts.not_sent > 0 {
        reasons.push(format!(
            "{} of {} requests were not sent because {} were in flight; raise --max-in-flight or lower --rate",
            counts.not_sent, counts.offered, evidence.max_in_flight
        ));
    }
    if evidence.open && summary.backlog.grows(counts.offered) {
        reasons.push(format!(
            "the rate is not sustained: requests in flight grow by {:.1} a second, so that \
             percentiles tell the length of the run",
            summary.backlog.growth_per_second
        ));
    }
    reasons
}

fn limited(summary: &Summary, evidence: &Evidence) -> Vec<String> {
    let mut reasons = Vec::new();
    let [.., p99, _, _] = QUANTILES;
    let lag = summary.lag.percentile(p99).value.or(summary.lag.max());
    let response = summary
        .response
        .percentile(p99)
        .value
        .or(summary.response.max());
    if let (true, Some(lag), Some(response)) = (evidence.open, lag, response) {
        let allowed = LAG.max(response.mul_f64(LAG_SHARE));
        if lag > allowed {
            reasons.push(format!(
                "sends were late by {:.2} ms at p99, more than {:.2} ms; give the client cores of \
                 its own, or more --connections where the server limits calls on each",
                lag.as_secs_f64() * 1e3,
                allowed.as_secs_f64() * 1e3
            ));
        }
    }
    if let Some(share) = evidence.cpu_share.filter(|share| *share > CPU_SHARE) {
        reasons.push(format!(
            "the client used {:.0} % of its cores; spread the load over more machines or lower it",
            share * 100.0
        ));
    }
    reasons
}

fn notes(summary: &Summary, evidence: &Evidence) -> Vec<String> {
    let counts = &summary.counts;
    let mut notes = Vec::new();
    if !evidence.open {
        notes.push("closed: says nothing about latency at a rate".to_owned());
    }
    if let Some(cores) = evidence.shared_cores {
        notes.push(format!(
            "client and server share one machine of {cores} cores"
        ));
    }
    if evidence.streams_reopened > 0 {
        notes.push(format!(
            "streams ended {} times and were opened again; what was in flight on them failed",
            evidence.streams_reopened
        ));
    }
    // Requests in flight when the server was asked are on one side only.
    let sent = counts.sent();
    let slack = sent / 100 + 2 * summary.backlog.peak;
    if let Some(served) = evidence
        .served
        .filter(|served| served.abs_diff(sent) > slack)
    {
        let why = match served > sent {
            true => "another client may be using it",
            false => "others may have failed on the way, or were refused before they were counted",
        };
        notes.push(format!(
            "the server counted {served} requests where {sent} were sent; {why}"
        ));
    }
    let missing = counts.failed + counts.timed_out + counts.unfinished;
    if missing > 0 {
        notes.push(format!(
            "{missing} of {} requests got no correct answer; they rank above every answer or at what they waited",
            counts.offered
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use forebay_client::Code;

    use super::*;
    use crate::record::{Outcome, Record};

    const FAIR: Evidence = Evidence {
        open: true,
        end: End::Complete,
        max_in_flight: 64,
        cpu_share: Some(0.3),
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
            if number % 50 == 0 {
                record.sent = Some(record.intended + Duration::from_millis(3));
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
}
