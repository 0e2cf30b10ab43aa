//! Whether a batch runs through the stages or inline. Pure.
//!
//! Stages can gain at most the time of the copies, which then hide behind the forward pass; they
//! cost the hand-over from thread to thread, twice a batch. Both are measured while batches run,
//! the copies for each batch size, and the smaller one loses.

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
    copies: BTreeMap<usize, Average>,
    handover: Average,
}

/// Batches of a size that run through the stages before a choice is made.
const TRIALS: u32 = 3;

/// Hand-overs that a batch in stages has and one that runs inline has not.
const HANDOVERS: u32 = 2;

impl Chooser {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            copies: BTreeMap::new(),
            handover: Average::default(),
        }
    }

    /// Chooses the way of a batch of `rows` rows.
    pub(super) fn choose(&self, rows: usize) -> Path {
        match (self.mode, self.copies.get(&rows)) {
            (Mode::Inline, _) => Path::Inline,
            (Mode::Auto, Some(copies))
                if copies.samples >= TRIALS
                    && self.handover.samples > 0
                    && copies.value < self.handover.value * HANDOVERS =>
            {
                Path::Inline
            }
            _ => Path::Stages,
        }
    }

    /// Learns what the copies of a batch of `rows` rows took.
    pub(super) fn observe_copies(&mut self, rows: usize, took: Duration) {
        // Sizes are bounded by max_batch_size, but a model without one takes any.
        const SIZES: usize = 4096;
        if self.copies.len() < SIZES || self.copies.contains_key(&rows) {
            self.copies.entry(rows).or_default().add(took);
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
        assert_eq!(chooser.choose(4) == Path::Inline, mode == Mode::Inline);
        for _ in 0..TRIALS {
            chooser.observe_copies(4, copies);
            chooser.observe_handover(handover);
        }
        chooser.choose(4)
    }

    #[test]
    fn stages_are_taken_where_copies_outweigh_hand_overs() {
        assert_eq!(after(Mode::Auto, 100 * US, 10 * US), Path::Stages);
        assert_eq!(after(Mode::Auto, 5 * US, 10 * US), Path::Inline);
        assert_eq!(after(Mode::Stages, 5 * US, 10 * US), Path::Stages);
        assert_eq!(after(Mode::Inline, 100 * US, 10 * US), Path::Inline);
    }

    #[test]
    fn a_choice_follows_what_is_measured_later() {
        let mut chooser = Chooser::new(Mode::Auto);
        chooser.observe_handover(10 * US);
        for _ in 0..TRIALS {
            chooser.observe_copies(1, US);
        }
        assert_eq!(chooser.choose(1), Path::Inline);
        assert_eq!(chooser.choose(2), Path::Stages);
        for _ in 0..20 {
            chooser.observe_copies(1, 100 * US);
        }
        assert_eq!(chooser.choose(1), Path::Stages);
    }
}
