//! Which of several ways is the fastest for batches of one size, in one situation. Pure.
//!
//! One way holds the title. Now and then a challenger runs in turn with it, on the same stretch of
//! time, and takes the title when it wins twice in a row. The more a challenger lost by, the longer
//! the rest until the next trial.
//!
//! Invariant: a way that loses runs so rarely that it costs no more than [`SHARE`] of the time.

use std::time::Duration;

use super::{Path, window::Window};

/// Part of the time that trials may cost: one in this many.
const SHARE: f64 = 200.0;

/// A challenger must be this much faster, so that equals do not take turns.
const MARGIN: f64 = 0.99;

/// Batches between two trials, at least. Whether a trial could gain is looked at as often.
const REST: u32 = 64;

/// And at most, however much a challenger lost by.
const LONGEST_REST: f64 = 65_536.0;

/// Batches after a change, whatever the old holder then lost by: the two may be close.
const SETTLING: u32 = 1024;

/// Batches before the first trial: as many as it takes to know the times of the stages.
const FIRST: u32 = 8;

/// The time of the holder has moved when it differs by this factor from what it was.
const MOVED: f64 = 1.25;

/// Trials that a challenger must win in a row.
const WINS: u32 = 2;

/// A stretch of batches that take turns between the holder's way and the challenger's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    pub(super) challenger: Path,
    length: u32,
    block: u32,
    step: u32,
}

impl Trial {
    /// Plans a trial of `length` batches in blocks of `block`.
    pub(super) const fn new(length: u32, block: u32) -> Self {
        Self {
            challenger: Path::Stages,
            length,
            block,
            step: 0,
        }
    }

    /// Makes it a trial of `challenger`.
    pub(super) const fn of(self, challenger: Path) -> Self {
        Self { challenger, ..self }
    }

    /// Returns whether the next batch goes the challenger's way; `None` at the end.
    pub(super) fn step(&mut self) -> Option<bool> {
        let at = self.step;
        self.step += 1;
        (at < self.length).then_some((at / self.block) % 2 == 1)
    }
}

/// The holder, its rivals, and their times.
#[derive(Debug)]
pub(super) struct Contest {
    holder: Path,
    times: Vec<(Path, Window)>,
    /// Batches since the last trial.
    since: u32,
    /// Batches after which the next may be.
    rest: u32,
    /// Batches after which to look whether one would gain.
    look: u32,
    /// What the holder took at the last trial.
    settled: Option<Duration>,
    /// The last challenger to win, and how often in a row.
    wins: Option<(Path, u32)>,
    /// Which rival is next.
    next: usize,
}

impl Contest {
    pub(super) fn new(holder: Path) -> Self {
        Self {
            holder,
            times: Vec::new(),
            since: 0,
            rest: FIRST,
            look: FIRST,
            settled: None,
            wins: None,
            next: 0,
        }
    }

    pub(super) fn holder(&self) -> Path {
        self.holder
    }

    /// Learns the time of a batch.
    pub(super) fn record(&mut self, path: Path, took: Duration) {
        match self.times.iter_mut().find(|(known, _)| *known == path) {
            Some((_, window)) => window.add(took),
            None => {
                let mut window = Window::default();
                window.add(took);
                self.times.push((path, window));
            }
        }
    }

    /// Returns the ways next to the holder's, in at most `most` pieces.
    pub(super) fn rivals(&self, most: usize, may_inline: bool) -> Vec<Path> {
        let whole = match self.holder {
            Path::Inline => vec![Path::Stages],
            Path::Stages if may_inline => vec![Path::Inline],
            Path::Stages => vec![],
            Path::Cut(2) => vec![Path::Stages],
            Path::Cut(pieces) => vec![Path::Cut(pieces / 2)],
        };
        let finer = match self.holder {
            Path::Cut(pieces) => 2 * pieces,
            Path::Inline | Path::Stages => 2,
        };
        let finer = (finer <= most).then_some(Path::Cut(finer));
        finer.into_iter().chain(whole).collect()
    }

    /// Counts a batch, and returns who is to challenge the holder now, if anyone. `bound` tells the
    /// least time that a way could take.
    pub(super) fn challenger(
        &mut self,
        rivals: &[Path],
        bound: impl Fn(Path) -> Option<Duration>,
    ) -> Option<Path> {
        self.since = self.since.saturating_add(1);
        if self.since < self.look {
            return None;
        }
        self.look = self.since.saturating_add(REST);
        let now = self.median(self.holder)?;
        let moved = self.settled.is_some_and(|then| {
            let factor = now.div_duration_f64(then.max(Duration::from_nanos(1)));
            !(1.0 / MOVED..MOVED).contains(&factor)
        });
        if self.since < self.rest && !moved {
            return None;
        }
        let could_win =
            |path: Path| bound(path).is_some_and(|bound| bound < now.mul_f64(self.margin(path)));
        if let Some((path, _)) = self.wins
            && rivals.contains(&path)
        {
            return Some(path);
        }
        let found = (0..rivals.len())
            .map(|step| rivals[(self.next + step) % rivals.len()])
            .find(|&path| could_win(path));
        self.next = self.next.wrapping_add(1);
        found
    }

    /// Begins a trial: only what is measured side by side is compared.
    pub(super) fn begin(&mut self) {
        self.times.iter_mut().for_each(|(_, window)| window.clear());
    }

    /// Ends a trial.
    pub(super) fn judge(&mut self, trial: &Trial) {
        let challenger = trial.challenger;
        self.since = 0;
        self.rest = REST;
        self.look = REST;
        if challenger == self.holder {
            return;
        }
        let (Some(holds), Some(challenges)) = (self.median(self.holder), self.median(challenger))
        else {
            return;
        };
        self.settled = Some(holds);
        let ratio = challenges.div_duration_f64(holds.max(Duration::from_nanos(1)));
        if ratio >= self.margin(challenger) {
            self.wins = None;
            let cost = f64::from(trial.length / 2) * (ratio - 1.0).max(0.0);
            self.rest = rest_after(cost);
            return;
        }
        let wins = match self.wins {
            Some((path, wins)) if path == challenger => wins + 1,
            _ => 1,
        };
        if wins < WINS {
            self.wins = Some((challenger, wins));
            (self.rest, self.look) = (0, 0);
        } else {
            self.wins = None;
            self.holder = challenger;
            self.settled = Some(challenges);
            self.next = 0;
            // A finer cut may be better still, and is not what was beaten.
            self.rest = match challenger {
                Path::Cut(_) => REST / 8,
                Path::Inline | Path::Stages => SETTLING,
            };
            self.look = self.rest.min(REST);
        }
    }

    /// Where both are as fast on their own, the next batch may as well begin before the end of this
    /// one.
    fn margin(&self, challenger: Path) -> f64 {
        match (self.holder, challenger) {
            (Path::Inline, Path::Stages) => 1.0,
            _ => MARGIN,
        }
    }

    fn median(&self, path: Path) -> Option<Duration> {
        let (_, window) = self.times.iter().find(|(known, _)| *known == path)?;
        window.median()
    }
}

/// Returns for how many batches to rest after a trial that cost as much time as `cost` batches.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the longest rest"
)]
fn rest_after(cost: f64) -> u32 {
    (cost * SHARE).clamp(f64::from(REST), LONGEST_REST) as u32
}
