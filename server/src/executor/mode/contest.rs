//! Which of several ways is the fastest for batches of one size, in one situation. Pure.
//!
//! One way holds the title. Now and then a challenger runs in turn with it, on the same stretch of
//! time, and takes the title when it wins twice in a row. The more a challenger lost by, the longer
//! it rests.
//!
//! Invariant: a way that loses runs so rarely that it costs no more than one in [`SHARE`] of the
//! time.

use std::time::Duration;

use super::{
    Path,
    window::{ENOUGH, Window},
};

/// Part of the time that the trials of one challenger may cost: one in this many.
const SHARE: f64 = 400.0;

/// A challenger must be this much faster, so that equals do not take turns.
const MARGIN: f64 = 0.99;

/// And to cut what is whole, or finer, this much: pieces cost the host more, whatever the clock says.
const CUT_MARGIN: f64 = 0.95;

/// How long a trial lasts at least, and the most batches that it takes for that: what disturbs a
/// host for a moment must not decide it.
const LASTS: (Duration, u32) = (Duration::from_millis(10), 128);

/// The most batches of a trial that goes on because it says too little.
const LONGEST: u32 = 512;

/// Trials that a challenger must win in a row.
const WINS: u32 = 2;

/// The time of the holder has moved when it differs by this factor from what it was; then everyone
/// may challenge it again.
const MOVED: f64 = 1.25;

/// Batches before the first trial, and between the first ones of several rivals: as many as it takes
/// to know the times of the stages.
const FIRST: u64 = 8;

/// Batches after which to look again whether a trial would gain.
const LOOK: u64 = 64;

/// Batches for which a challenger rests after it lost, at least and at most.
const REST: (f64, f64) = (256.0, 65_536.0);

/// Batches for which a holder that lost rests, since the two may be close, and which lie between two
/// moves of its time.
const SETTLING: u64 = 1024;

/// A stretch of batches that take turns between the holder's way and the challenger's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    pub(super) challenger: Path,
    length: u32,
    planned: u32,
    block: u32,
    step: u32,
}

impl Trial {
    /// Plans a trial of `length` batches in blocks of `block`.
    pub(super) const fn new(length: u32, block: u32) -> Self {
        Self {
            challenger: Path::Stages,
            length,
            planned: length,
            block,
            step: 0,
        }
    }

    /// Makes it a trial of `challenger`.
    pub(super) const fn of(self, challenger: Path) -> Self {
        Self { challenger, ..self }
    }

    /// Makes it longer where batches take `each` and it would be over too soon.
    pub(super) fn at_least(self, each: Duration) -> Self {
        let nanos = LASTS.0.as_nanos() / each.as_nanos().max(1);
        let length = u32::try_from(nanos).unwrap_or(u32::MAX).min(LASTS.1);
        let length = self.length.max(length);
        Self {
            block: self.block * length / self.length,
            length,
            ..self
        }
    }

    /// Makes it go on for as long as it was planned for, up to [`LONGEST`]. Returns whether it does.
    pub(super) fn goes_on(&mut self) -> bool {
        let length = self.length + self.planned;
        let goes_on = length <= LONGEST;
        if goes_on {
            self.length = length;
        }
        goes_on
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
    ways: Vec<Way>,
    /// Batches so far.
    count: u64,
    /// The count at which to look whether a trial would gain.
    look: u64,
    /// What the holder took at the last trial.
    settled: Option<Duration>,
    /// The count until which no move of the holder's time counts.
    moves: u64,
    /// The last challenger to win, and how often in a row.
    wins: Option<(Path, u32)>,
    /// Batches for which all rest after the next trial that decides nothing.
    doubt: f64,
}

/// What a trial says of one size, however little that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    /// The challenger's time over the holder's.
    ratio: f64,
    /// Samples of the way that has fewer.
    weight: usize,
}

/// Returns the ratio of all sizes together: the median, each size with its weight. `None` where there
/// are too few samples for that.
pub(super) fn of_all(mut outcomes: Vec<Outcome>) -> Option<f64> {
    outcomes.sort_unstable_by(|one, other| one.ratio.total_cmp(&other.ratio));
    let all: usize = outcomes.iter().map(|outcome| outcome.weight).sum();
    let mut below = 0;
    let middle = outcomes.iter().find(|outcome| {
        below += outcome.weight;
        2 * below >= all
    });
    middle
        .filter(|_| all >= ENOUGH)
        .map(|outcome| outcome.ratio)
}

#[derive(Debug)]
struct Way {
    path: Path,
    times: Window,
    /// The count until which it rests.
    rests: u64,
}

impl Contest {
    pub(super) fn new(holder: Path) -> Self {
        Self {
            holder,
            ways: Vec::new(),
            count: 0,
            look: FIRST,
            settled: None,
            moves: 0,
            wins: None,
            doubt: REST.0,
        }
    }

    pub(super) fn holder(&self) -> Path {
        self.holder
    }

    /// Learns the time of a batch.
    pub(super) fn record(&mut self, path: Path, took: Duration) {
        self.way(path).times.add(took);
    }

    /// Returns the ways next to the holder's, in at most `most` pieces.
    pub(super) fn rivals(&self, most: usize, may_inline: bool) -> Vec<Path> {
        let whole = match self.holder {
            Path::Inline => Some(Path::Stages),
            Path::Stages => may_inline.then_some(Path::Inline),
            Path::Cut(2) => Some(Path::Stages),
            Path::Cut(pieces) => Some(Path::Cut(pieces / 2)),
        };
        let finer = 2 * self.holder.pieces();
        let finer = (finer <= most).then_some(Path::Cut(finer));
        whole.into_iter().chain(finer).collect()
    }

    /// Counts a batch, and returns whether it is time to ask for a
    /// [`challenger`](Self::challenger): most batches pay for no more than this.
    pub(super) fn is_due(&mut self) -> bool {
        self.count += 1;
        self.count >= self.look
    }

    /// Returns who is to challenge the holder now, if anyone. `bound` tells the least time that a way could
    /// take, given what the holder's takes; `handicap` is added to what was measured inline.
    pub(super) fn challenger(
        &mut self,
        rivals: &[Path],
        handicap: Duration,
        bound: impl Fn(Path, Duration) -> Option<Duration>,
    ) -> Option<Path> {
        let winner = self.wins.map(|(path, _)| path);
        if let Some(winner) = winner.filter(|path| rivals.contains(path)) {
            self.look = self.count + FIRST;
            return Some(winner);
        }
        self.look = self.count + LOOK;
        let now = self.median(self.holder, handicap)?;
        let factor = ratio(now, *self.settled.get_or_insert(now));
        let moved = !(1.0 / MOVED..MOVED).contains(&factor);
        if moved && self.count >= self.moves {
            self.moves = self.count + SETTLING;
            self.settled = Some(now);
            self.doubt = REST.0;
            self.ways.iter_mut().for_each(|way| way.rests = 0);
        }
        let may_win = |path: &Path| {
            bound(*path, now).is_some_and(|bound| bound < now.mul_f64(self.margin(*path)))
        };
        let mut ready = rivals
            .iter()
            .copied()
            .filter(|path| self.rests(*path) <= self.count);
        let found = ready.find(may_win);
        if found.is_some() {
            // Where there is another, it need not wait for long.
            self.look = self.count + FIRST;
        }
        found
    }

    /// Begins a trial: only what is measured side by side is compared.
    pub(super) fn begin(&mut self) {
        self.ways.iter_mut().for_each(|way| way.times.clear());
    }

    /// Returns what a trial says, before it is judged.
    pub(super) fn outcome(&self, trial: &Trial) -> Option<Outcome> {
        let (holder, challenger) = (self.holder, trial.challenger);
        let [holder, challenger] = [holder, challenger].map(|path| self.times(path));
        let (holder, challenger) = (holder?, challenger?);
        Some(Outcome {
            ratio: ratio(challenger.middle()?, holder.middle()?),
            weight: holder.len().min(challenger.len()),
        })
        .filter(|_| trial.challenger != self.holder)
    }

    /// Ends a trial. `handicap` is added to what was measured inline; `of_all` is the ratio of several
    /// contests, for one that cannot tell by itself.
    pub(super) fn judge(&mut self, trial: &Trial, handicap: Duration, of_all: Option<f64>) {
        let (holder, challenger) = (self.holder, trial.challenger);
        if challenger == holder {
            return;
        }
        let times = [holder, challenger].map(|path| self.median(path, handicap));
        let (ratio, holds, challenges) = match times {
            [Some(holds), Some(challenges)] => {
                (ratio(challenges, holds), Some(holds), Some(challenges))
            }
            // What the time is by itself is seen at the next look.
            _ => match of_all {
                Some(ratio) => (ratio, None, None),
                None => return self.rest_in_doubt(challenger),
            },
        };
        self.settled = holds;
        self.doubt = REST.0;
        if ratio >= self.margin(challenger) {
            self.wins = None;
            let cost = f64::from(trial.length / 2) * (ratio - 1.0);
            self.way(challenger).rests = self.count + rest_after(cost);
            return;
        }
        let wins = match self.wins {
            Some((path, wins)) if path == challenger => wins + 1,
            _ => 1,
        };
        if wins < WINS {
            self.wins = Some((challenger, wins));
            self.look = 0;
        } else {
            self.wins = None;
            self.holder = challenger;
            self.settled = challenges;
            self.way(holder).rests = self.count + SETTLING;
        }
    }

    /// Lets a challenger rest after a trial in which others came in between. What it would have cost is
    /// not known, so the next one is twice as far away.
    fn rest_in_doubt(&mut self, challenger: Path) {
        self.wins = None;
        self.way(challenger).rests = self.count + rest_of(self.doubt);
        self.doubt = (2.0 * self.doubt).min(REST.1);
    }

    fn margin(&self, challenger: Path) -> f64 {
        if challenger.pieces() > self.holder.pieces() {
            CUT_MARGIN
        } else {
            MARGIN
        }
    }

    fn median(&self, path: Path, handicap: Duration) -> Option<Duration> {
        let median = self.times(path)?.median()?;
        Some(match path {
            Path::Inline => median + handicap,
            Path::Stages | Path::Cut(_) => median,
        })
    }

    fn times(&self, path: Path) -> Option<&Window> {
        let way = self.ways.iter().find(|way| way.path == path);
        way.map(|way| &way.times)
    }

    fn rests(&self, path: Path) -> u64 {
        let way = self.ways.iter().find(|way| way.path == path);
        way.map_or(0, |way| way.rests)
    }

    fn way(&mut self, path: Path) -> &mut Way {
        let at = self.ways.iter().position(|way| way.path == path);
        let at = at.unwrap_or_else(|| {
            self.ways.push(Way {
                path,
                times: Window::default(),
                rests: 0,
            });
            self.ways.len() - 1
        });
        &mut self.ways[at]
    }
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.div_duration_f64(other.max(Duration::from_nanos(1)))
}

/// Returns for how many batches to rest after a trial that cost as much time as `cost` batches.
fn rest_after(cost: f64) -> u64 {
    rest_of(cost * SHARE)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between the least and the longest rest"
)]
fn rest_of(batches: f64) -> u64 {
    batches.clamp(REST.0, REST.1) as u64
}
