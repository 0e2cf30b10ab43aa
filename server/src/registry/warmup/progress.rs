//! How far a warm-up has come, and what time it has left.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// The sizes that are warm, and the time that they took.
pub(super) struct Progress {
    limit: Duration,
    /// When the first pass was over. What comes before is the device's own start, and is not counted.
    since: Option<Instant>,
    pub(super) warm: BTreeSet<usize>,
    /// What a row took in the last pass.
    row: Duration,
}

impl Progress {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: None,
            warm: BTreeSet::new(),
            row: Duration::ZERO,
        }
    }

    /// Returns whether nothing has run yet.
    pub(super) fn is_cold(&self) -> bool {
        self.since.is_none()
    }

    /// Starts the clock.
    pub(super) fn begin(&mut self) {
        self.since = Some(Instant::now());
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
        self.row = began.elapsed() / count(rows);
        Ok(())
    }

    pub(super) fn tell(&self, model: &str, sizes: &[usize]) {
        let left: BTreeSet<usize> = sizes.iter().copied().collect();
        let left = left.difference(&self.warm).copied().collect();
        let (took, warm) = (self.took(), ranges(&self.warm));
        if self.warm.len() == sizes.len() {
            tracing::info!(%model, ?took, batch_sizes = warm, "warmed up");
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
