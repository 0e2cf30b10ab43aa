//! How far a warm-up has come, and what time it has left.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::model::RowTime;

/// What sizes may take before it is asked whether more are worth it.
const CHEAP: Duration = Duration::from_millis(10);

/// What a first pass may take over the time that its rows call for, and still count as one that had
/// nothing to make.
const LITTLE: f64 = 1.25;

/// The sizes that are warm, and the time that they took.
pub(super) struct Progress {
    limit: Duration,
    /// When the first pass was over; what comes before is the device's own start, and is not counted.
    /// When it began, where the device is known to have started.
    since: Option<Instant>,
    pub(super) warm: BTreeSet<usize>,
    /// What a row took in the last pass.
    row: Duration,
    /// What the last first pass of a size took over what its rows called for, as later passes or the
    /// size before told.
    over_expected: Option<f64>,
}

impl Progress {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: None,
            warm: BTreeSet::new(),
            row: Duration::ZERO,
            over_expected: None,
        }
    }

    /// Returns whether nothing has run yet.
    pub(super) fn is_cold(&self) -> bool {
        self.since.is_none()
    }

    /// Starts the clock.
    pub(super) fn begin(&mut self, since: Instant) {
        self.since = Some(since);
    }

    /// Takes over what passes over one row are known to take. The very first of a model makes all that
    /// the first of another size does, and more.
    pub(super) fn know(&mut self, row: RowTime) {
        self.over_expected = Some(row.first.div_duration_f64(row.later));
        self.row = row.later;
    }

    pub(super) fn took(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn has_time_for(&self, rows: usize, passes: usize) -> bool {
        let expected = self
            .row
            .saturating_mul(count(rows))
            .saturating_mul(count(passes));
        self.took() + expected <= self.limit
    }

    /// Runs a pass of `rows` rows, and notes what it took.
    pub(super) fn time<E>(
        &mut self,
        rows: usize,
        pass: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let began = Instant::now();
        pass()?;
        self.note(rows, began.elapsed());
        Ok(())
    }

    fn note(&mut self, rows: usize, took: Duration) {
        if !self.row.is_zero() {
            let expected = self.row.saturating_mul(count(rows));
            self.over_expected = Some(took.div_duration_f64(expected));
        }
        self.row = took / count(rows);
    }

    /// Returns whether the sizes so far have cost something, and the last one has shown that a new
    /// size is as fast as its rows let it be.
    pub(super) fn is_settled(&self) -> bool {
        self.took() >= CHEAP && self.over_expected.is_some_and(|over| over < LITTLE)
    }

    pub(super) fn tell(&self, model: &str, sizes: &[usize]) {
        let left: BTreeSet<usize> = sizes.iter().copied().collect();
        let left = left.difference(&self.warm).copied().collect();
        let (took, warm) = (self.took(), ranges(&self.warm));
        if self.warm.len() == sizes.len() {
            tracing::info!(%model, ?took, batch_sizes = warm, "warmed up");
        } else if self.is_settled() && self.took() < self.limit {
            let left = ranges(&left);
            tracing::info!(%model, ?took, batch_sizes = warm, left, "warmed up; a first pass of another size takes little longer than later ones");
        } else {
            let left = ranges(&left);
            tracing::info!(%model, ?took, batch_sizes = warm, left, limit = ?self.limit, "warmed up, as far as registry.warmup_timeout allows");
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Writes numbers as ranges: 1, 3..=5.
pub(super) fn ranges(numbers: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}..={last}")
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether it is settled after first passes of these rows and milliseconds.
    fn settled(passes: &[(usize, u64)]) -> bool {
        let mut progress = Progress::new(Duration::MAX);
        progress.since = Instant::now().checked_sub(CHEAP);
        for (rows, took) in passes {
            progress.note(*rows, Duration::from_millis(*took));
        }
        progress.is_settled()
    }

    #[test]
    fn a_new_size_that_is_as_fast_as_its_rows_let_it_be_settles_the_warm_up() {
        assert!(settled(&[(1, 38), (2, 79)]));
        assert!(!settled(&[(1, 38)]));
        // Something was made for the size.
        assert!(!settled(&[(1, 38), (2, 120)]));
        assert!(settled(&[(1, 38), (2, 120), (8, 300)]));
    }

    #[test]
    fn sizes_that_cost_little_settle_nothing() {
        let mut progress = Progress::new(Duration::MAX);
        progress.note(1, Duration::from_millis(1));
        progress.note(2, Duration::from_millis(2));
        assert!(!progress.is_settled());
    }
}
