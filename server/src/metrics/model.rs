//! What the models have done, and what waits for them.

use std::time::{Duration, Instant};

use forebay_proto::inference::{InferStatistics, ModelStatistics, StatisticDuration};

use super::figure::{Figure, Kind, Point};
use crate::registry::Served;

/// The figure with the most points.
pub(super) const STAGE_TIME: &str = "forebay.model.stage.time";

/// The state of one version of a model.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    is_ready: bool,
    queued: u64,
    parked: u64,
    /// How long instances waited for requests that were on disk.
    disk_wait: Duration,
    done: ModelStatistics,
}

impl Snapshot {
    pub(super) fn of(served: &Served) -> Self {
        let queue = &served.scheduler;
        Self {
            is_ready: served.failure().is_none(),
            queued: queue.len() as u64,
            parked: queue.parked() as u64,
            disk_wait: queue.stalls(Instant::now()),
            done: served.statistics.report(&served.name, served.version),
        }
    }

    fn point(&self, value: u64) -> Point {
        Point::new(value)
            .with("model", self.done.name.clone())
            .with("version", self.done.version.clone())
    }

    fn by<const N: usize>(
        &self,
        key: &'static str,
        values: [(&'static str, u64); N],
    ) -> impl Iterator<Item = Point> + use<'_, N> {
        let point = move |(name, value)| self.point(value).with(key, name);
        values.into_iter().map(point)
    }

    /// Returns the requests that succeeded and those that failed.
    fn outcomes(&self, figure: fn(StatisticDuration) -> u64) -> impl Iterator<Item = Point> {
        let InferStatistics { success, fail, .. } = self.done.inference_stats.unwrap_or_default();
        let figure = |sum: Option<StatisticDuration>| figure(sum.unwrap_or_default());
        let outcomes = [("success", figure(success)), ("failure", figure(fail))];
        self.by("outcome", outcomes)
    }

    fn stages(&self) -> impl Iterator<Item = Point> {
        let sums = self.done.inference_stats.unwrap_or_default();
        let nanos = |sum: Option<StatisticDuration>| sum.unwrap_or_default().ns;
        let stages = [
            ("queue", nanos(sums.queue)),
            ("h2d", nanos(sums.compute_input)),
            ("compute", nanos(sums.compute_infer)),
            ("d2h", nanos(sums.compute_output)),
        ];
        self.by("stage", stages)
    }

    /// Returns the time on disk and on the way back.
    fn parking(&self) -> impl Iterator<Item = Point> {
        let parking = self.done.forebay_parking.unwrap_or_default();
        let nanos = |sum: Option<StatisticDuration>| sum.unwrap_or_default().ns;
        let states = [
            ("parked", nanos(parking.parked)),
            ("onboard", nanos(parking.onboard)),
        ];
        self.by("state", states)
    }

    fn parked_requests(&self) -> u64 {
        let parking = self.done.forebay_parking.unwrap_or_default();
        parking.parked.unwrap_or_default().count
    }

    fn batches(&self) -> impl Iterator<Item = Point> {
        let sizes = || self.done.batch_stats.iter();
        let ways = [
            ("inline", sizes().map(|of| of.forebay_inline_count).sum()),
            ("stages", sizes().map(|of| of.forebay_staged_count).sum()),
            ("cut", sizes().map(|of| of.forebay_cut_count).sum()),
        ];
        self.by("path", ways)
    }

    fn pipeline(&self) -> impl Iterator<Item = Point> {
        let pipeline = self.done.forebay_pipeline.unwrap_or_default();
        let states = [
            ("busy", pipeline.busy_ns),
            ("computing", pipeline.computing_ns),
        ];
        self.by("state", states)
    }
}

/// All of them.
pub(super) const FIGURES: &[Figure<Vec<Snapshot>>] = &[
    Figure {
        name: "forebay.model.ready",
        unit: "1",
        about: "1 for a version that takes requests, 0 for one that loaded and does not any more.",
        kind: Kind::Level,
        read: |models| each(models, |model| u64::from(model.is_ready)),
    },
    Figure {
        name: "forebay.model.queue.length",
        unit: "{request}",
        about: "Requests that are queued, on disk or not.",
        kind: Kind::Level,
        read: |models| each(models, |model| model.queued),
    },
    Figure {
        name: "forebay.model.queue.parked",
        unit: "{request}",
        about: "Requests that are queued with their tensors on disk.",
        kind: Kind::Level,
        read: |models| each(models, |model| model.parked),
    },
    Figure {
        name: "forebay.model.disk_wait.time",
        unit: "s",
        about: "Time in which an instance had nothing to run but what was on disk.",
        kind: Kind::Time,
        read: |models| each(models, |model| nanos(model.disk_wait)),
    },
    Figure {
        name: "forebay.model.requests",
        unit: "{request}",
        about: "Requests that ended, by outcome: a failure also where its client went away, or before it was queued.",
        kind: Kind::Count,
        read: |models| all(models, |model| model.outcomes(|sum| sum.count)),
    },
    Figure {
        name: "forebay.model.request.time",
        unit: "s",
        about: "Time from their arrival to their answers, added up over requests.",
        kind: Kind::Time,
        read: |models| all(models, |model| model.outcomes(|sum| sum.ns)),
    },
    Figure {
        name: STAGE_TIME,
        unit: "s",
        about: "Time in the queue and in the stages, added up over requests that succeeded.",
        kind: Kind::Time,
        read: |models| all(models, Snapshot::stages),
    },
    Figure {
        name: "forebay.model.parking.requests",
        unit: "{request}",
        about: "Requests that succeeded and had been on disk.",
        kind: Kind::Count,
        read: |models| each(models, Snapshot::parked_requests),
    },
    Figure {
        name: "forebay.model.parking.time",
        unit: "s",
        about: "Time of theirs on disk and on the way back, part of that in the queue.",
        kind: Kind::Time,
        read: |models| all(models, Snapshot::parking),
    },
    Figure {
        name: "forebay.model.inferences",
        unit: "{row}",
        about: "Rows of batches that succeeded.",
        kind: Kind::Count,
        read: |models| each(models, |model| model.done.inference_count),
    },
    Figure {
        name: "forebay.model.executions",
        unit: "{batch}",
        about: "Batches that succeeded, by the way chosen for them.",
        kind: Kind::Count,
        read: |models| all(models, Snapshot::batches),
    },
    Figure {
        name: "forebay.model.pipeline.time",
        unit: "s",
        about: "Time in which any batch was under way, and in which a pass ran.",
        kind: Kind::Time,
        read: |models| all(models, Snapshot::pipeline),
    },
];

fn each(models: &[Snapshot], value: fn(&Snapshot) -> u64) -> Vec<Point> {
    let point = |model: &Snapshot| model.point(value(model));
    models.iter().map(point).collect()
}

fn all<'a, P: Iterator<Item = Point>>(
    models: &'a [Snapshot],
    points: impl Fn(&'a Snapshot) -> P,
) -> Vec<Point> {
    models.iter().flat_map(points).collect()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
