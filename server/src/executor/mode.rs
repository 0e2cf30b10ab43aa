//! How a batch runs: inline, through the stages, or cut into pieces. Pure; time is passed in.
//!
//! Nothing is assumed about what is faster. For each batch size the ways are tried against each
//! other ([`Contest`]), and a way is tried only where the times of the stages leave room for it to
//! gain: no batch that runs inline is faster than its stages together, and no pipeline than its
//! slowest stage. A batch on its own is judged by its latency, and running it inline also by how
//! often another came meanwhile and had to wait. Where others wait, it is the time from one
//! completion to the next that counts, and all sizes try a way at once: a gap between two completions
//! says something of a way only where both batches went it. A size that came too rarely to be judged
//! by itself is judged as all sizes together.
//!
//! Invariant: trials are rare enough for a way that loses to cost no more than a few tenths of a percent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::micro::MicroBatches;

mod contest;
mod costs;
mod window;

use contest::{Contest, Trial};
use costs::Costs;
pub(super) use costs::Took;

/// How the batches of a model run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As is measured to be faster, for each batch size.
    Auto,
    /// One batch after the other, each from start to end.
    Inline,
    /// The next batch begins as soon as there is room in the first stage.
    Stages,
}

/// The way of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The next batch is taken after this one is answered.
    Inline,
    /// The next batch is taken once this one is on its way to the device.
    Stages,
    /// As with stages, and in so many pieces, whose copies overlap the passes of one another.
    Cut(usize),
}

impl Path {
    /// Returns in how many pieces the batch runs.
    pub fn pieces(self) -> usize {
        match self {
            Self::Inline | Self::Stages => 1,
            Self::Cut(pieces) => pieces,
        }
    }
}

/// A batch that was taken from the scheduler, for [`Chooser::observe`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) path: Path,
    arrival: Arrival,
    /// Which one it is.
    number: u64,
}

/// What is known of a batch when it is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) rows: usize,
    /// Whether others are under way or wait.
    pub(super) in_company: bool,
    /// Whether its rows may be cut.
    pub(super) may_cut: bool,
    /// Since when its first request waited.
    pub(super) queued: Instant,
}

/// Chooses the way of each batch from what earlier ones took.
#[derive(Debug)]
pub(super) struct Chooser {
    mode: Mode,
    micro: MicroBatches,
    /// By rows of the batch.
    sizes: BTreeMap<usize, Size>,
    /// The trial of batches in company.
    trial: Option<Trial>,
    last: Option<Completion>,
    taken: u64,
    /// How often another came while a batch ran on its own: from 0 to 1.
    visits: f64,
}

/// What is known of batches of one size.
#[derive(Debug)]
struct Size {
    alone: Contest,
    trial: Option<Trial>,
    /// The way of the last batch on its own.
    last: Option<Path>,
    in_company: Contest,
    costs: Costs,
}

#[derive(Debug, Clone, Copy)]
struct Completion {
    at: Instant,
    path: Path,
    /// Whether it was alone, and it is not known yet whether another came meanwhile.
    alone: bool,
}

/// Sizes that are learned. `max_batch_size` bounds them too, but may be large.
const SIZES: usize = 512;

/// Batches of a trial on their own, at least, and of a block of one way. The first of a block says
/// nothing: threads still do what the way before left them to do.
const ALONE: Trial = Trial::new(24, 4);

/// The same in company, where the first of a block meets batches of the other way.
const IN_COMPANY: Trial = Trial::new(64, 8);

/// What one batch weighs in how often another came meanwhile.
const VISIT: f64 = 1.0 / 32.0;

impl Chooser {
    pub(super) fn new(mode: Mode, micro: MicroBatches) -> Self {
        Self {
            mode,
            micro,
            sizes: BTreeMap::new(),
            trial: None,
            last: None,
            taken: 0,
            visits: 0.0,
        }
    }

    /// Chooses the way of a batch.
    pub(super) fn choose(&mut self, mut arrival: Arrival) -> Taken {
        self.taken += 1;
        if let Some(last) = &mut self.last {
            // It would have run beside the last one, had that let it.
            let waited = arrival.queued < last.at;
            arrival.in_company |= waited;
            if last.alone {
                last.alone = false;
                self.visits += VISIT * (f64::from(u8::from(waited)) - self.visits);
            }
        }
        let path = match (self.mode, self.micro) {
            (_, MicroBatches::Pieces(pieces))
                if arrival.may_cut && arrival.rows >= pieces.get() =>
            {
                match pieces.get() {
                    1 => self.whole(&arrival),
                    pieces => Path::Cut(pieces),
                }
            }
            _ => match self.whole(&arrival) {
                // It was the fastest as long as it could be taken.
                Path::Cut(_) if !arrival.may_cut => Path::Stages,
                path => path,
            },
        };
        Taken {
            path,
            arrival,
            number: self.taken,
        }
    }

    fn whole(&mut self, arrival: &Arrival) -> Path {
        let may_inline = match self.mode {
            Mode::Inline => return Path::Inline,
            Mode::Stages => false,
            Mode::Auto => true,
        };
        let may_cut = arrival.may_cut && self.micro == MicroBatches::Auto;
        if self.sizes.len() >= SIZES && !self.sizes.contains_key(&arrival.rows) {
            // What is not learned goes the way that others begin with.
            return first(may_inline && !arrival.in_company);
        }
        let rows = arrival.rows;
        let size = self
            .sizes
            .entry(rows)
            .or_insert_with(|| Size::new(may_inline));
        if !arrival.in_company {
            let most = if may_cut { rows } else { 1 };
            return size.alone(most, may_inline, self.visits);
        }
        if !may_inline {
            return Path::Stages;
        }
        match &mut self.trial {
            Some(trial) => match trial.step() {
                Some(true) => return trial.challenger,
                Some(false) => {}
                None => self.judge(),
            },
            None => {
                if let Some(challenger) = size.challenger_in_company() {
                    let trial = self.trial.insert(IN_COMPANY.of(challenger));
                    trial.step();
                    for size in self.sizes.values_mut() {
                        size.in_company.begin();
                    }
                }
            }
        }
        self.sizes
            .get(&rows)
            .map_or(Path::Stages, |size| size.in_company.holder())
    }

    /// Ends the trial of batches in company, unless so many sizes take part that it says too little yet.
    fn judge(&mut self) {
        if let Some(mut trial) = self.trial.take() {
            let sizes = self.sizes.values();
            let outcomes = sizes.filter_map(|size| size.in_company.outcome(&trial));
            let outcomes: Vec<_> = outcomes.collect();
            let some = !outcomes.is_empty();
            let all = contest::of_all(outcomes);
            if some && all.is_none() && trial.goes_on() {
                self.trial = Some(trial);
                return;
            }
            for size in self.sizes.values_mut() {
                size.in_company.judge(&trial, Duration::ZERO, all);
            }
        }
    }

    /// Learns that a batch succeeded, and what its parts took.
    pub(super) fn observe(&mut self, taken: &Taken, ended: Instant, took: Took) {
        let Taken {
            path,
            arrival,
            number,
        } = *taken;
        // Where others were taken meanwhile, they are known to have come.
        let last = Completion {
            at: ended,
            path,
            alone: !arrival.in_company && self.taken == number,
        };
        let before = self.last.replace(last);
        if !arrival.in_company && !last.alone {
            self.visits += VISIT * (1.0 - self.visits);
        }
        let Some(size) = self.sizes.get_mut(&arrival.rows) else {
            return;
        };
        if !matches!(path, Path::Cut(_)) {
            size.costs.add(took);
        }
        if arrival.in_company {
            // Nothing waited for work in between, and both went the same way.
            if let Some(before) = before
                && before.path == path
                && arrival.queued <= before.at
            {
                let gap = ended.saturating_duration_since(before.at);
                size.in_company.record(path, gap);
            }
        } else if size.last.replace(path) == Some(path) && last.alone {
            // Nothing was taken after it that might have slowed it down. From when it was queued: who
            // takes a batch may be slow to wake.
            let took = ended.saturating_duration_since(arrival.queued);
            size.alone.record(path, took);
        }
    }

    /// Learns that a batch did not succeed, so that the time since the last one says nothing.
    pub(super) fn lost(&mut self) {
        self.last = None;
    }
}

impl Size {
    fn new(inline: bool) -> Self {
        Self {
            alone: Contest::new(first(inline)),
            trial: None,
            last: None,
            in_company: Contest::new(first(false)),
            costs: Costs::default(),
        }
    }

    /// Chooses the way of a batch on its own, in at most `most` pieces.
    fn alone(&mut self, most: usize, may_inline: bool, visits: f64) -> Path {
        match &mut self.trial {
            Some(trial) => match trial.step() {
                Some(true) => return trial.challenger,
                Some(false) => {}
                None => {
                    let handicap = self.handicap(visits);
                    if let Some(trial) = self.trial.take() {
                        self.alone.judge(&trial, handicap, None);
                    }
                }
            },
            None if self.alone.is_due() => {
                let rivals = self.alone.rivals(most.min(MOST_PIECES), may_inline);
                self.challenge(rivals, self.handicap(visits));
            }
            None => {}
        }
        self.alone.holder()
    }

    /// Returns what running inline costs those who come meanwhile. They wait for half of it, on
    /// average, and in stages would have waited for half of the slowest.
    fn handicap(&self, visits: f64) -> Duration {
        let costs = self.costs.all_and_slowest();
        costs.map_or(Duration::ZERO, |[all, slowest]| {
            (all - slowest).mul_f64(visits / 2.0)
        })
    }

    /// Begins a trial of batches on their own where one of `rivals` could win it.
    fn challenge(&mut self, mut rivals: Vec<Path>, handicap: Duration) {
        let costs = self.costs.with_gathering();
        let all = costs.map_or(Duration::ZERO, |[all, _]| all);
        if handicap * 100 < all && self.alone.holder() == Path::Inline {
            // It saves a batch on its own nothing that the next one may begin early.
            rivals.retain(|&path| path != Path::Stages);
        }
        let holder = self.alone.holder();
        let bound = |path: Path, now: Duration| {
            let [all, slowest] = costs?;
            let of_parts = |path: Path| match path {
                Path::Cut(pieces) => {
                    let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
                    (all + slowest * (pieces - 1)) / pieces
                }
                Path::Inline => all + handicap,
                Path::Stages => all,
            };
            let pieces = |path: Path| u32::try_from(path.pieces()).unwrap_or(u32::MAX);
            let more = pieces(path).saturating_sub(pieces(holder));
            Some(if more > 0 {
                // Finer pieces hide copies. What else a batch takes, such as waking threads, stays.
                let rest = now.saturating_sub(of_parts(holder));
                of_parts(path) + rest + PIECE * more
            } else {
                of_parts(path) + PIECE * (pieces(path) - 1)
            })
        };
        if let Some(challenger) = self.alone.challenger(&rivals, handicap, bound) {
            let trial = self.trial.insert(ALONE.of(challenger).at_least(all));
            trial.step();
            self.alone.begin();
        }
    }

    fn challenger_in_company(&mut self) -> Option<Path> {
        if !self.in_company.is_due() {
            return None;
        }
        let rival = match self.in_company.holder() {
            Path::Inline => Path::Stages,
            _ => Path::Inline,
        };
        self.in_company
            .challenger(&[rival], Duration::ZERO, |path, _| {
                let [all, slowest] = self.costs.all_and_slowest()?;
                Some(match path {
                    Path::Inline => all,
                    _ => slowest,
                })
            })
    }
}

/// The way that is gone before anything is known.
fn first(inline: bool) -> Path {
    if inline { Path::Inline } else { Path::Stages }
}

/// Pieces of a batch that are tried. More could gain little: the first and the last piece's copies
/// are all that is left to hide.
pub(super) const MOST_PIECES: usize = 8;

/// What a further piece must gain for a cut to be tried: what it costs the host to enqueue, and what
/// it takes for a clock of the host to tell the two apart.
const PIECE: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests;
