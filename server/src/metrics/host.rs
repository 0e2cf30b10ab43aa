//! What requests and replies hold of the host's memory.

use super::figure::{Figure, Kind, by, one};
use crate::admission::{Budget, Refused};

/// The state of the budget.
#[derive(Debug)]
pub(super) struct Snapshot {
    used: u64,
    capacity: u64,
    waiting: u64,
    refused: Refused,
}

impl Snapshot {
    pub(super) fn of(budget: &Budget) -> Self {
        Self {
            used: budget.used(),
            capacity: budget.capacity(),
            waiting: budget.waiting() as u64,
            refused: budget.refused(),
        }
    }
}

/// All of them.
pub(super) const FIGURES: &[Figure<Snapshot>] = &[
    Figure {
        name: "forebay.host.usage",
        unit: "By",
        about: "Bytes that requests and replies hold.",
        kind: Kind::Level,
        read: |host| one(host.used),
    },
    Figure {
        name: "forebay.host.limit",
        unit: "By",
        about: "Bytes that they may hold together.",
        kind: Kind::Level,
        read: |host| one(host.capacity),
    },
    Figure {
        name: "forebay.host.waiting",
        unit: "{message}",
        about: "Messages that wait for bytes before they are read.",
        kind: Kind::Level,
        read: |host| one(host.waiting),
    },
    Figure {
        name: "forebay.host.refused",
        unit: "{message}",
        about: "Messages that were refused before they were decoded.",
        kind: Kind::Count,
        read: |host| {
            let Refused {
                memory,
                length,
                progress,
            } = host.refused;
            let reasons = [
                ("memory", memory),
                ("length", length),
                ("progress", progress),
            ];
            by("reason", reasons)
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Refusal;

    #[test]
    fn a_budget_shows_what_is_held_and_who_waits() {
        let budget = Budget::new("host", 100);
        let _held = budget.charge(70);
        let _waits = budget.reserve(40);
        budget.count(Refusal::Memory);
        let host = Snapshot::of(&budget);
        let values: Vec<_> = FIGURES.iter().map(|one| (one.read)(&host)).collect();
        let refused = by("reason", [("memory", 1), ("length", 0), ("progress", 0)]);
        assert_eq!(values, [one(70), one(100), one(1), refused]);
    }
}
