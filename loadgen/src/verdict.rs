//! Whether the numbers of a run may be believed, and if not, why.

use std::{fmt, process::ExitCode, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    host::ThreadShare,
    runner::End,
    stats::{Latencies, QUANTILES, Summary},
};

/// The lag that is always allowed at p99.
const LAG: Duration = Duration::from_millis(1);

/// The share of the p99 response that lag may be; what is held back longer is told.
const LAG_SHARE: f64 = 0.05;

/// The share of its cores above which the client measures itself.
const CPU_SHARE: f64 = 0.8;

/// The share of the time above which a thread has no more to give.
const THREAD_SHARE: f64 = 0.9;

/// Failures at the end of an open loop that mean that the target is gone, if they are more in a row than
/// any before. One that sheds nine of ten requests ends a run so once in 40,000 times.
const GONE: u64 = 100;

/// A shorter run tells it by a quarter of its requests, if they are so many.
const GONE_AT_LEAST: u64 = 20;

/// For how long a target must have failed to be gone, where the rate is high.
const GONE_FOR: Duration = Duration::from_secs(1);

/// The part of a run that suffices for that.
const GONE_SHARE: f64 = 0.05;

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
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Whether requests were sent by a schedule.
    pub open: bool,
    /// Why the run ended.
    pub end: End,
    /// The requests that were allowed in flight.
    pub max_in_flight: usize,
    /// The share of its cores that the client used, where known.
    pub cpu_share: Option<f64>,
    /// The thread that hands all requests over and takes all answers, where known.
    pub runner_thread: Option<ThreadShare>,
    /// The busiest thread of the client, where known.
    pub busiest_thread: Option<ThreadShare>,
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
    if let Some(failing) = summary.failing.filter(|_| evidence.open && counts.ok > 0)
        && failing.requests >= (counts.offered / 4).clamp(GONE_AT_LEAST, GONE)
        && failing.requests > failing.before
        && failing.lasted >= GONE_FOR.min((failing.since + failing.lasted).mul_f64(GONE_SHARE))
    {
        reasons.push(format!(
            "the target was gone at the end: the last {} requests in a row failed or timed out, since \
             {:.1} s after the start; see whether the server is still up",
            failing.requests,
            failing.since.as_secs_f64()
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
    if let Some((lag, allowed)) = too_long(&summary.lag, summary).filter(|_| evidence.open) {
        reasons.push(format!(
            "the client was late by {:.2} ms at p99, more than {:.2} ms; give it cores of its own",
            lag.as_secs_f64() * 1e3,
            allowed.as_secs_f64() * 1e3
        ));
    }
    let runner = evidence.runner_thread.as_ref();
    if let Some(share) = evidence.cpu_share.filter(|share| *share > CPU_SHARE) {
        reasons.push(format!(
            "the client used {:.0} % of its cores; spread the load over more machines or lower it",
            share * 100.0
        ));
    } else if let Some(runner) = runner.filter(|runner| runner.share > THREAD_SHARE) {
        reasons.push(format!(
            "the client's thread '{}', which hands over all requests and takes all answers, was busy \
             {:.0} % of the time; spread the load over more machines or lower it",
            runner.name,
            runner.share * 100.0
        ));
    }
    let held = too_long(&summary.held, summary).filter(|_| evidence.open);
    if let Some(((held, _), busiest)) = held.zip(relieved_by_none(evidence)) {
        reasons.push(format!(
            "requests were held back for {:.2} ms at p99 while the client's thread '{}' was busy {:.0} % of \
             the time; take more --connections, or more machines",
            held.as_secs_f64() * 1e3,
            busiest.name,
            busiest.share * 100.0
        ));
    }
    reasons
}

/// Returns `times` at p99 and what is allowed there, if it is more.
fn too_long(times: &Latencies, summary: &Summary) -> Option<(Duration, Duration)> {
    let [.., p99, _, _] = QUANTILES;
    let tail = |times: &Latencies| times.percentile(p99).value.or(times.max());
    let allowed = LAG.max(tail(&summary.response)?.mul_f64(LAG_SHARE));
    let found = tail(times)?;
    (found > allowed).then_some((found, allowed))
}

fn notes(summary: &Summary, evidence: &Evidence) -> Vec<String> {
    let counts = &summary.counts;
    let mut notes = Vec::new();
    if !evidence.open {
        notes.push("closed: says nothing about latency at a rate".to_owned());
    }
    notes.extend(held_back(summary).filter(|_| evidence.open));
    notes.extend(busy_thread(evidence));
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

fn held_back(summary: &Summary) -> Option<String> {
    let (held, _) = too_long(&summary.held, summary)?;
    Some(format!(
        "requests were held back for {:.2} ms at p99 once the client had handed them over: by the \
         server, which need not read, or by the connection, of which --connections makes more; \
         response has that time, service does not",
        held.as_secs_f64() * 1e3
    ))
}

/// Tells of a thread without time left. Work moves from it to other threads, unless all of it is of one
/// connection, so that it is no ground to judge by.
fn busy_thread(evidence: &Evidence) -> Option<String> {
    let busiest = relieved_by_none(evidence)?;
    Some(format!(
        "the client's thread '{}' was busy {:.0} % of the time; see whether more --connections \
         change the figures",
        busiest.name,
        busiest.share * 100.0
    ))
}

/// Returns the thread without time left, if it is not the one that is judged by itself.
fn relieved_by_none(evidence: &Evidence) -> Option<&ThreadShare> {
    let busiest = evidence.busiest_thread.as_ref()?;
    let judged = evidence.runner_thread.as_ref() == Some(busiest);
    (busiest.share > THREAD_SHARE && !judged).then_some(busiest)
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
