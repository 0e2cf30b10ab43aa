//! How busy the pipelines of a model were, and how much of that time passes ran. Pure; time is
//! passed in.
//!
//! Passes are told when their batch is done, so they come late, and where instances run side by side
//! in any order. Their times are kept as disjoint intervals, merged where they touch; once there are
//! too many, the oldest is added to the sum and everything before its end is closed. So memory is
//! bounded, and a pass is counted short only if it comes later than [`OPEN`] gaps after it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use forebay_proto::inference::ForebayPipelineStatistics;

/// Intervals that are still open to others.
const OPEN: usize = 64;

/// The figures of all instances of one model version.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    inside: usize,
    /// Since when at least one batch is inside.
    since: Option<Instant>,
    busy: Duration,
    /// h2d, compute, d2h.
    stages: [Duration; 3],
    computing: Union,
}

impl Pipeline {
    /// A batch has left the scheduler.
    pub(super) fn enter(&mut self, now: Instant) {
        self.inside += 1;
        self.since.get_or_insert(now);
    }

    /// A batch is answered.
    pub(super) fn leave(&mut self, now: Instant) {
        self.inside = self.inside.saturating_sub(1);
        if self.inside == 0
            && let Some(since) = self.since.take()
        {
            self.busy += now.saturating_duration_since(since);
        }
    }

    /// Returns figures that begin now, with the batches inside that are.
    pub(super) fn restarted(&self, now: Instant) -> Self {
        Self {
            inside: self.inside,
            since: self.since.map(|_| now),
            ..Self::default()
        }
    }

    /// Adds what the stages of a batch took, and when its passes ran.
    pub(super) fn record(&mut self, stages: [Duration; 3], passes: &[(Instant, Instant)]) {
        for (sum, took) in self.stages.iter_mut().zip(stages) {
            *sum += took;
        }
        for &(began, ended) in passes {
            self.computing.add(began, ended);
        }
    }

    pub(super) fn report(&self, now: Instant) -> ForebayPipelineStatistics {
        let running = self.since.map(|since| now.saturating_duration_since(since));
        let [h2d, compute, d2h] = self.stages;
        ForebayPipelineStatistics {
            busy_ns: nanos(self.busy + running.unwrap_or_default()),
            h2d_ns: nanos(h2d),
            compute_ns: nanos(compute),
            d2h_ns: nanos(d2h),
            computing_ns: nanos(self.computing.total()),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The length of a union of intervals.
#[derive(Debug, Default)]
struct Union {
    closed: Duration,
    /// Before this, nothing is counted any more.
    closed_until: Option<Instant>,
    /// Disjoint, in order.
    open: VecDeque<(Instant, Instant)>,
}

impl Union {
    fn add(&mut self, began: Instant, ended: Instant) {
        let began = self.closed_until.map_or(began, |until| began.max(until));
        if began >= ended {
            return;
        }
        let first = self.open.partition_point(|&(_, end)| end < began);
        let behind = self.open.partition_point(|&(begin, _)| begin <= ended);
        if first == behind {
            self.open.insert(first, (began, ended));
        } else {
            let (one, other) = (self.open[first], self.open[behind - 1]);
            self.open[first] = (began.min(one.0), ended.max(other.1));
            self.open.drain(first + 1..behind);
        }
        if self.open.len() > OPEN
            && let Some((began, ended)) = self.open.pop_front()
        {
            self.closed += ended - began;
            self.closed_until = Some(ended);
        }
    }

    fn total(&self) -> Duration {
        let open = self.open.iter().map(|(began, ended)| *ended - *began);
        self.closed + open.sum::<Duration>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pipeline_is_busy_while_any_batch_is_inside() {
        let start = Instant::now();
        let mut pipeline = Pipeline::default();
        for (at, enters) in [(0, true), (5, true), (7, false), (10, false), (20, true)] {
            let now = start + at * MS;
            if enters {
                pipeline.enter(now);
            } else {
                pipeline.leave(now);
            }
        }
        assert_eq!(pipeline.report(start + 23 * MS).busy_ns, 13_000_000);
        pipeline.leave(start + 24 * MS);
        assert_eq!(pipeline.report(start + 99 * MS).busy_ns, 14_000_000);
    }

    #[test]
    fn passes_that_overlap_count_once_in_whatever_order_they_come() {
        let start = Instant::now();
        let passes = [(0, 4), (2, 6), (6, 7), (10, 12), (20, 30), (21, 22)];
        for turn in 0..passes.len() {
            let mut pipeline = Pipeline::default();
            for step in 0..passes.len() {
                let (began, ended) = passes[(turn + step * 5) % passes.len()];
                let pass = (start + began * MS, start + ended * MS);
                pipeline.record([MS, 2 * MS, 3 * MS], &[pass]);
            }
            let report = pipeline.report(start);
            assert_eq!(report.computing_ns, 19_000_000);
            assert_eq!(
                (report.h2d_ns, report.compute_ns, report.d2h_ns),
                (6_000_000, 12_000_000, 18_000_000)
            );
        }
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_counted_twice() {
        let start = Instant::now();
        let mut union = Union::default();
        for pass in 0..1000 {
            let began = start + 3 * pass * MS;
            union.add(began, began + 2 * MS);
            // And once more, as another instance's.
            union.add(began, began + MS);
        }
        assert_eq!(union.total(), 2000 * MS);
        assert!(union.open.len() <= OPEN);
        union.add(start, start + MS);
        assert_eq!(union.total(), 2000 * MS);
    }
}
