//! Whether a batch runs through the stages or inline. Pure.
//!
//! For a batch on its own, stages can gain at most the time of the copies, and they cost the
//! hand-over from thread to thread, twice. Where other batches are under way too, a hand-over hides
//! behind the forward pass of the batch before, if that is long enough; running inline would leave
//! the device idle between two passes, while one thread answers and takes the next batch. All of it
//! is measured while batches run, for each batch size.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// How the batches of a model run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As is measured to be faster, for each batch size.
    Auto,
    /// One thread runs each batch from start to end.
    Inline,
    /// Three threads, one for each stage.
    Stages,
}

/// The way of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    Inline,
    Stages,
}

/// Chooses the way of each batch from what earlier ones took.
#[derive(Debug)]
pub(super) struct Chooser {
    mode: Mode,
    /// By rows of the batch.
    costs: BTreeMap<usize, Cost>,
    handover: Average,
}

/// What batches of one size take.
#[derive(Debug, Default)]
struct Cost {
    copies: Average,
    pass: Average,
}

/// Batches of a size that run through the stages before a choice is made.
const TRIALS: u32 = 3;

/// Hand-overs that a batch in stages has and one that runs inline has not.
const HANDOVERS: u32 = 2;

impl Chooser {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            costs: BTreeMap::new(),
            handover: Average::default(),
        }
    }

    /// Chooses the way of a batch of `rows` rows; `in_company` where others are under way or wait.
    pub(super) fn choose(&self, rows: usize, in_company: bool) -> Path {
        let threshold = self.handover.value * HANDOVERS;
        match (self.mode, self.costs.get(&rows)) {
            (Mode::Inline, _) => Path::Inline,
            (Mode::Auto, Some(Cost { copies, pass }))
                if copies.samples >= TRIALS
                    && self.handover.samples > 0
                    && copies.value < threshold
                    && (!in_company || pass.value < threshold) =>
            {
                Path::Inline
            }
            _ => Path::Stages,
        }
    }

    /// Learns what the copies and the forward pass of a batch of `rows` rows took.
    pub(super) fn observe(&mut self, rows: usize, copies: Duration, pass: Duration) {
        // Sizes are bounded by max_batch_size, but a model without one takes any.
        const SIZES: usize = 4096;
        if self.costs.len() < SIZES || self.costs.contains_key(&rows) {
            let cost = self.costs.entry(rows).or_default();
            cost.copies.add(copies);
            cost.pass.add(pass);
        }
    }

    /// Learns what a hand-over to a thread that was waiting for it took.
    pub(super) fn observe_handover(&mut self, took: Duration) {
        self.handover.add(took);
    }
}

/// An average in which a sample weighs an eighth, and the first ones as much as they can.
#[derive(Debug, Clone, Copy, Default)]
struct Average {
    value: Duration,
    samples: u32,
}

impl Average {
    fn add(&mut self, sample: Duration) {
        self.samples = self.samples.saturating_add(1);
        let weight = self.samples.min(8);
        self.value = (self.value * (weight - 1) + sample) / weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    fn after(mode: Mode, copies: Duration, handover: Duration) -> Path {
        let mut chooser = Chooser::new(mode);
        assert_eq!(
            chooser.choose(4, false) == Path::Inline,
            mode == Mode::Inline
        );
        for _ in 0..TRIALS {
            chooser.observe(4, copies, 1000 * US);
            chooser.observe_handover(handover);
        }
        chooser.choose(4, false)
    }

    #[test]
    fn stages_are_taken_where_copies_outweigh_hand_overs() {
        assert_eq!(after(Mode::Auto, 100 * US, 10 * US), Path::Stages);
        assert_eq!(after(Mode::Auto, 5 * US, 10 * US), Path::Inline);
        assert_eq!(after(Mode::Stages, 5 * US, 10 * US), Path::Stages);
        assert_eq!(after(Mode::Inline, 100 * US, 10 * US), Path::Inline);
    }

    #[test]
    fn in_company_stages_are_taken_where_a_pass_hides_the_hand_overs() {
        for (pass, path) in [(100 * US, Path::Stages), (10 * US, Path::Inline)] {
            let mut chooser = Chooser::new(Mode::Auto);
            chooser.observe_handover(10 * US);
            for _ in 0..TRIALS {
                chooser.observe(1, US, pass);
            }
            assert_eq!(chooser.choose(1, false), Path::Inline);
            assert_eq!(chooser.choose(1, true), path);
        }
    }

    #[test]
    fn a_choice_follows_what_is_measured_later() {
        let mut chooser = Chooser::new(Mode::Auto);
        chooser.observe_handover(10 * US);
        for _ in 0..TRIALS {
            chooser.observe(1, US, US);
        }
        assert_eq!(chooser.choose(1, false), Path::Inline);
        assert_eq!(chooser.choose(2, false), Path::Stages);
        for _ in 0..20 {
            chooser.observe(1, 100 * US, US);
        }
        assert_eq!(chooser.choose(1, false), Path::Stages);
    }
}
