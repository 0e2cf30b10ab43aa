//! What the store for overflow has done and holds.
//!
//! OpenTelemetry has no histogram that is read from a snapshot, so the latencies are a counter with
//! the attribute `le`, each bucket with those below it, as Prometheus has them:
//! `histogram_quantile` takes it as it is.

use forebay_spill::{DirStats, Histogram, Stats};

use super::figure::{Figure, Kind, Point, by, one};

const DIRECTION: &str = "direction";
const WRITE: &str = "write";
const READ: &str = "read";

/// All of them.
pub(super) const FIGURES: &[Figure<Stats>] = &[
    Figure {
        name: "forebay.spill.io",
        unit: "By",
        about: "Bytes moved, with those that fill the last 4 KiB.",
        kind: Kind::Count,
        read: |spill| each_way(spill.written.bytes, spill.read.bytes),
    },
    Figure {
        name: "forebay.spill.operations",
        unit: "{operation}",
        about: "Reads and writes.",
        kind: Kind::Count,
        read: |spill| each_way(spill.written.operations, spill.read.operations),
    },
    Figure {
        name: "forebay.spill.operation.time",
        unit: "s",
        about: "Time that reads and writes took, added up.",
        kind: Kind::Time,
        read: |spill| {
            let nanos = |latency: &Histogram| latency.sum_us().saturating_mul(1000);
            each_way(nanos(&spill.written.latency), nanos(&spill.read.latency))
        },
    },
    Figure {
        name: "forebay.spill.operation.duration.bucket",
        unit: "{operation}",
        about: "Reads and writes that took no longer than `le` seconds.",
        kind: Kind::Count,
        read: |spill| {
            let written = cumulative(WRITE, &spill.written.latency);
            written
                .chain(cumulative(READ, &spill.read.latency))
                .collect()
        },
    },
    Figure {
        name: "forebay.spill.queue.length",
        unit: "{tensor}",
        about: "Tensors that wait to be written or read.",
        kind: Kind::Level,
        read: |spill| each_way(spill.queued_items as u64, spill.queued_reads as u64),
    },
    Figure {
        name: "forebay.spill.queue.usage",
        unit: "By",
        about: "Bytes that wait to be written.",
        kind: Kind::Level,
        read: |spill| one(spill.queued_bytes),
    },
    Figure {
        name: "forebay.spill.in_flight",
        unit: "{operation}",
        about: "Operations that the disks are at.",
        kind: Kind::Level,
        read: |spill| one(spill.in_flight as u64),
    },
    Figure {
        name: "forebay.spill.in_flight.usage",
        unit: "By",
        about: "Bytes that the disks are at.",
        kind: Kind::Level,
        read: |spill| one(spill.in_flight_bytes),
    },
    Figure {
        name: "forebay.spill.tensors",
        unit: "{tensor}",
        about: "Tensors that are parked.",
        kind: Kind::Level,
        read: |spill| one(spill.parked as u64),
    },
    Figure {
        name: "forebay.spill.usage",
        unit: "By",
        about: "Bytes of the capacity that parked tensors take.",
        kind: Kind::Level,
        read: |spill| one(spill.used_bytes),
    },
    Figure {
        name: "forebay.spill.limit",
        unit: "By",
        about: "The capacity.",
        kind: Kind::Level,
        read: |spill| one(spill.capacity_bytes),
    },
    Figure {
        name: "forebay.spill.kept",
        unit: "By",
        about: "Bytes of parked tensors that stayed in memory because no disk took them.",
        kind: Kind::Level,
        read: |spill| one(spill.kept_bytes),
    },
    Figure {
        name: "forebay.spill.bad",
        unit: "By",
        about: "Bytes that are not used again because a disk failed there.",
        kind: Kind::Level,
        read: |spill| one(spill.bad_bytes),
    },
    Figure {
        name: "forebay.spill.shared",
        unit: "{tensor}",
        about: "Tensors that shared an operation with others.",
        kind: Kind::Count,
        read: |spill| each_way(spill.coalesced, spill.merged_reads),
    },
    Figure {
        name: "forebay.spill.from_memory",
        unit: "{tensor}",
        about: "Tensors that were asked back before they were written.",
        kind: Kind::Count,
        read: |spill| one(spill.from_memory),
    },
    Figure {
        name: "forebay.spill.retries",
        unit: "{operation}",
        about: "Operations that were started again.",
        kind: Kind::Count,
        read: |spill| one(spill.retries),
    },
    Figure {
        name: "forebay.spill.short_transfers",
        unit: "{operation}",
        about: "Operations that moved less than they were asked to.",
        kind: Kind::Count,
        read: |spill| one(spill.short_transfers),
    },
    Figure {
        name: "forebay.spill.errors",
        unit: "{error}",
        about: "Errors by their kind.",
        kind: Kind::Count,
        read: errors,
    },
    Figure {
        name: "forebay.spill.dir.in_use",
        unit: "{directory}",
        about: "1 for a directory in use, 0 for one whose disk kept failing.",
        kind: Kind::Level,
        read: dirs,
    },
];

fn each_way(written: u64, read: u64) -> Vec<Point> {
    by(DIRECTION, [(WRITE, written), (READ, read)])
}

/// Returns for each bucket how many are in it or below.
fn cumulative(direction: &'static str, latency: &Histogram) -> impl Iterator<Item = Point> {
    let buckets: Vec<_> = latency.buckets().collect();
    let last = buckets.len() - 1;
    let mut below = 0;
    buckets
        .into_iter()
        .enumerate()
        .map(move |(place, (upper_us, count))| {
            below += count;
            let le = match place {
                _ if place == last => "+Inf".to_owned(),
                _ => (upper_us as f64 / 1e6).to_string(),
            };
            Point::new(below).with(DIRECTION, direction).with("le", le)
        })
}

fn errors(spill: &Stats) -> Vec<Point> {
    let errors = &spill.errors;
    by(
        "kind",
        [
            ("quota", errors.quota),
            ("full", errors.full),
            ("too_large", errors.too_large),
            ("queue_full", errors.queue_full),
            ("io", errors.io),
            ("corrupt", errors.corrupt),
            ("disabled", errors.disabled),
        ],
    )
}

fn dirs(spill: &Stats) -> Vec<Point> {
    let dir = |dir: &DirStats| {
        let in_use = u64::from(dir.out_of_use.is_none());
        let path = dir.path.to_string_lossy().into_owned();
        Point::new(in_use)
            .with("dir", path)
            .with("engine", dir.engine)
    };
    spill.dirs.iter().map(dir).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(name: &str, stats: &Stats) -> Vec<Point> {
        let figure = FIGURES.iter().find(|one| one.name == name).unwrap();
        (figure.read)(stats)
    }

    #[test]
    fn what_goes_either_way_is_told_apart() {
        let mut stats = Stats::default();
        (stats.written.bytes, stats.read.bytes) = (8192, 4096);
        let io = read("forebay.spill.io", &stats);
        let way = |bytes, direction| Point::new(bytes).with("direction", direction);
        assert_eq!(io, [way(8192, "write"), way(4096, "read")]);
    }

    #[test]
    fn a_bucket_holds_those_below_it_and_the_last_one_all() {
        let mut stats = Stats::default();
        for us in [0, 3, 3, 1000, u64::MAX] {
            stats.read.latency.record(Duration::from_micros(us));
        }
        let buckets = read("forebay.spill.operation.duration.bucket", &stats);
        for (le, count) in [
            ("0.000001", 1),
            ("0.000002", 1),
            ("0.000004", 3),
            ("0.001024", 4),
            ("+Inf", 5),
        ] {
            let wanted = Point::new(count).with(DIRECTION, READ).with("le", le);
            assert!(buckets.contains(&wanted), "no {wanted:?} in {buckets:#?}");
        }
        let unused = Point::new(0).with(DIRECTION, WRITE).with("le", "+Inf");
        assert!(buckets.contains(&unused), "a rate begins at zero");
    }

    #[test]
    fn a_directory_whose_disk_failed_is_named() {
        let dir = |path: &str, out_of_use: Option<&str>| DirStats {
            path: std::path::Path::new(path).into(),
            engine: "psync",
            registered: false,
            segment_bytes: 0,
            out_of_use: out_of_use.map(Into::into),
        };
        let stats = Stats {
            dirs: vec![dir("/a", None), dir("/b", Some("it kept failing"))],
            ..Stats::default()
        };
        let point = |value, path| Point::new(value).with("dir", path).with("engine", "psync");
        let shown = read("forebay.spill.dir.in_use", &stats);
        assert_eq!(shown, [point(1, "/a"), point(0, "/b")]);
    }
}
