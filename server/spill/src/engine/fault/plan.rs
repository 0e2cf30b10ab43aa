//! Plans: what decides which fault an operation meets.
//!
//! Invariant: the same seed and the same operations in the same order meet the same faults.

use super::{Fault, Until};
use crate::engine::{Direction, Op};

/// Decides on each operation as it is pushed.
pub type Plan = Box<dyn FnMut(&Op) -> Fault + Send>;

/// How many of a thousand operations meet which fault; the rest pass.
#[derive(Debug, Clone, Default)]
pub struct Mix {
    /// One of `errnos`, if there is any.
    pub errors: u64,
    /// A short transfer, of whole multiples of `round` bytes.
    pub shorts: u64,
    /// A completion behind up to eight others.
    pub held: u64,
    /// A changed bit.
    pub flips: u64,
    /// The errors to choose from.
    pub errnos: Vec<i32>,
    /// What short transfers are rounded to; 0 and 1 leave them as they are.
    pub round: usize,
}

/// Lets everything pass.
pub fn pass() -> Plan {
    Box::new(|_| Fault::Pass)
}

/// Does the same to every operation of one direction, and lets the others pass.
pub fn each(direction: Direction, fault: Fault) -> Plan {
    Box::new(move |op| {
        if op.direction == direction {
            fault.clone()
        } else {
            Fault::Pass
        }
    })
}

/// Gives the faults out in order, one an operation, and lets all later ones pass.
pub fn script(faults: impl IntoIterator<Item = Fault>) -> Plan {
    let mut faults = faults.into_iter().collect::<Vec<_>>().into_iter();
    Box::new(move |_| faults.next().unwrap_or_default())
}

/// Draws faults by chance from a mix.
pub fn seeded(seed: u64, mix: Mix) -> Plan {
    let mut chance = Chance(seed);
    Box::new(move |op| mix.draw(&mut chance, op))
}

impl Mix {
    fn draw(&self, chance: &mut Chance, op: &Op) -> Fault {
        let len = op.memory.len().saturating_sub(op.skip).max(1);
        // Drawn always, so that a mix does not shift what later operations meet.
        let (kind, detail) = (chance.below(1000), chance.next());
        let detail = usize::try_from(detail >> 32).unwrap_or_default();
        let errors = self.errors;
        let shorts = errors + self.shorts;
        let held = shorts + self.held;
        match kind {
            kind if kind < errors => match self.errnos.len() {
                0 => Fault::Pass,
                len => Fault::Errno(self.errnos[detail % len]),
            },
            kind if kind < shorts => Fault::Short {
                by: 1 + detail % len,
                round: self.round,
            },
            kind if kind < held => Fault::Hold(Until::Completed(1 + detail % 8)),
            kind if kind < held + self.flips => Fault::Flip { bit: detail },
            _ => Fault::Pass,
        }
    }
}

/// SplitMix64: a few lines instead of a dependency that only tests would use.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
