//! What a batch of one size takes, part by part.

use std::time::Duration;

use super::window::Window;

/// What the parts of a batch took.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::executor) struct Took {
    /// Gathering its inputs on the host, where it may be cut.
    pub(in crate::executor) gathering: Duration,
    /// On the device: h2d, compute, d2h.
    pub(in crate::executor) stages: [Duration; 3],
}

/// The parts of batches that were not cut.
#[derive(Debug, Default)]
pub(super) struct Costs {
    gathering: Window,
    stages: [Window; 3],
}

impl Costs {
    pub(super) fn add(&mut self, took: Took) {
        self.gathering.add(took.gathering);
        for (window, took) in self.stages.iter_mut().zip(took.stages) {
            window.add(took);
        }
    }

    /// Returns the time of all stages, and of the slowest.
    pub(super) fn all_and_slowest(&self) -> Option<[Duration; 2]> {
        let [h2d, compute, d2h] = &self.stages;
        let stages = [h2d.median()?, compute.median()?, d2h.median()?];
        Some([
            stages.iter().sum(),
            stages.into_iter().max().unwrap_or_default(),
        ])
    }

    /// Returns the same with gathering, which goes on while the device is busy with an earlier piece.
    pub(super) fn with_gathering(&self) -> Option<[Duration; 2]> {
        let gathering = self.gathering.median()?;
        let [all, slowest] = self.all_and_slowest()?;
        Some([all + gathering, slowest.max(gathering)])
    }
}
