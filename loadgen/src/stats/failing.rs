//! Whether the target still answered when a run ended.

use std::time::Duration;

use crate::record::{Outcome, Record};

/// Requests that failed or timed out at the end of a run, with no correct answer to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// How many.
    pub requests: u64,
    /// When the first of them should have been sent.
    pub since: Duration,
    /// From then until the last of them should have been.
    pub lasted: Duration,
    /// The most of them in a row before, after which the target answered again.
    pub before: u64,
}

impl Failing {
    /// Returns those of `records`, or `None` where the last request that came to an end was answered.
    /// Requests that were not sent, or not waited for, tell nothing of it.
    pub fn of(records: &[&Record]) -> Option<Self> {
        let mut ended: Vec<_> = records
            .iter()
            .filter(|record| !matches!(record.outcome, Outcome::NotSent | Outcome::Unfinished))
            .collect();
        ended.sort_unstable_by_key(|record| record.number);
        let mut rows = ended.split(|record| record.outcome == Outcome::Ok);
        let last = rows.next_back()?;
        Some(Self {
            requests: last.len() as u64,
            since: last.first()?.intended,
            lasted: last.last()?.intended.saturating_sub(last.first()?.intended),
            before: rows.map(<[_]>::len).max().unwrap_or(0) as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use forebay_client::Code;

    use super::*;

    /// Returns what is found of requests a millisecond apart with these outcomes, in any order.
    fn found(outcomes: &[Outcome]) -> Option<[u128; 4]> {
        let records: Vec<Record> = outcomes
            .iter()
            .zip(0..)
            .map(|(&outcome, number)| Record {
                number,
                intended: Duration::from_millis(number),
                submitted: None,
                sent: None,
                first: None,
                done: Duration::from_secs(1),
                outcome,
                stages: None,
            })
            .collect();
        let failing = Failing::of(&records.iter().rev().collect::<Vec<_>>());
        failing.map(|failing| {
            let [since, lasted] = [failing.since, failing.lasted].map(|time| time.as_millis());
            [
                failing.requests.into(),
                since,
                lasted,
                failing.before.into(),
            ]
        })
    }

    #[test]
    fn only_what_no_answer_follows_counts() {
        let (ok, failed) = (Outcome::Ok, Outcome::Failed(Code::Unavailable));
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[failed, failed, ok]), None);
        assert_eq!(
            found(&[failed, ok, failed, Outcome::TimedOut]),
            Some([2, 2, 1, 1])
        );
        assert_eq!(found(&[failed, failed]), Some([2, 0, 1, 0]));
        let open = [ok, Outcome::NotSent, failed, Outcome::Unfinished];
        assert_eq!(found(&open), Some([1, 2, 0, 0]));
    }
}
