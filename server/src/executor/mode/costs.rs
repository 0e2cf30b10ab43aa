//! What the stages of one batch size take.

use std::time::Duration;

use super::window::Window;

/// The times of the stages of batches that were not cut: h2d, compute, d2h.
#[derive(Debug, Default)]
pub(super) struct Costs([Window; 3]);

impl Costs {
    pub(super) fn add(&mut self, stages: [Duration; 3]) {
        for (window, took) in self.0.iter_mut().zip(stages) {
            window.add(took);
        }
    }

    /// Returns the time of all stages, and of the slowest.
    pub(super) fn all_and_slowest(&self) -> Option<[Duration; 2]> {
        let [h2d, compute, d2h] = &self.0;
        let stages = [h2d.median()?, compute.median()?, d2h.median()?];
        Some([
            stages.iter().sum(),
            stages.into_iter().max().unwrap_or_default(),
        ])
    }
}
