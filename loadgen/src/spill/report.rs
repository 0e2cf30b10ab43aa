//! What was measured of a store: as JSON, and as a table for people.

use std::fmt;

use bytesize::ByteSize;
use serde::Serialize;

use super::{Load, Pass, SCHEMA, Target, Way};
use crate::{
    cli::SpillArgs,
    stats::{Latencies, QUANTILES},
};

/// What was measured of a store.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The folder.
    pub dir: String,
    /// What did the I/O.
    pub engine: &'static str,
    /// Whether the kernel knew the store's own buffers.
    pub registered: bool,
    /// Whether what was on the disk was encrypted, and not just checksummed.
    pub encrypted: bool,
    /// Rounds.
    pub rounds: usize,
    /// A row for each size and way.
    pub rows: Vec<Row>,
}

/// One size, one way.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Bytes of a tensor.
    pub tensor_bytes: usize,
    /// Which way they went.
    pub way: Way,
    /// Tensors on their way at once.
    pub in_flight: usize,
    /// Tensors in one call.
    pub together: usize,
    /// Throughput: the median of the rounds.
    pub mib_per_s: f64,
    /// The least of the rounds.
    pub least_mib_per_s: f64,
    /// The greatest.
    pub greatest_mib_per_s: f64,
    /// What a GiB took of a core, in seconds: the median; null where the kernel does not tell.
    pub cpu_s_per_gib: Option<f64>,
    /// From the call until the tensor was there, over all rounds.
    pub latency_ms: Vec<Percentile>,
}

/// A percentile of the latencies.
#[derive(Debug, Clone, Serialize)]
pub struct Percentile {
    /// Its name.
    pub name: &'static str,
    /// Milliseconds; null where the samples are too few to speak of it.
    pub ms: Option<f64>,
}

impl Report {
    pub(super) fn new(args: &SpillArgs, target: &Target) -> Self {
        let dirs = target.store().stats().dirs;
        Self {
            schema: SCHEMA,
            dir: args.dir.display().to_string(),
            engine: dirs.first().map_or("none", |dir| dir.engine),
            registered: dirs.first().is_some_and(|dir| dir.registered),
            encrypted: args.encrypt,
            rounds: args.rounds,
            rows: Vec::new(),
        }
    }
}

impl Row {
    pub(super) fn of(load: &Load, way: Way, passes: &[Pass]) -> Self {
        let mut latencies = Latencies::new();
        passes
            .iter()
            .for_each(|pass| latencies.merge(&pass.latencies));
        let rates = sorted(passes.iter().map(Pass::mib_per_s));
        let cpu = sorted(passes.iter().filter_map(Pass::cpu_s_per_gib));
        let percentile = |quantile| {
            let told = latencies.percentile(quantile);
            let ms = told.value.map(|value| value.as_secs_f64() * 1e3);
            Percentile {
                name: told.quantile.name,
                ms,
            }
        };
        Self {
            tensor_bytes: load.tensor_bytes,
            way,
            in_flight: load.in_flight,
            together: load.together,
            mib_per_s: median(&rates).unwrap_or(f64::NAN),
            least_mib_per_s: rates.first().copied().unwrap_or(f64::NAN),
            greatest_mib_per_s: rates.last().copied().unwrap_or(f64::NAN),
            cpu_s_per_gib: median(&cpu),
            latency_ms: QUANTILES.map(percentile).into(),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> Option<f64> {
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some(f64::midpoint(sorted[low], sorted[high]))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffers = if self.registered {
            "registered"
        } else {
            "plain"
        };
        let seal = if self.encrypted {
            "encrypted"
        } else {
            "checksummed"
        };
        writeln!(
            f,
            "{} in {}, {buffers} buffers, {seal}; {} rounds\n",
            self.engine, self.dir, self.rounds
        )?;
        write!(
            f,
            "| tensor | in flight | way | MiB/s | least to greatest | CPU s/GiB |"
        )?;
        QUANTILES
            .iter()
            .try_for_each(|one| write!(f, " {} ms |", one.name))?;
        write!(f, "\n|---:|---:|---|---:|---:|---:|")?;
        QUANTILES.iter().try_for_each(|_| write!(f, "---:|"))?;
        writeln!(f)?;
        self.rows.iter().try_for_each(|row| line(f, row))?;
        writeln!(
            f,
            "\nMiB/s and CPU: medians of the rounds. Latency: from the call until the tensor was on the disk, or \
             in memory again, with as many in flight as said, so mostly waiting for its turn; all rounds, where \
             there are samples enough."
        )
    }
}

fn line(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let cpu = row
        .cpu_s_per_gib
        .map_or("n/a".to_owned(), |cpu| format!("{cpu:.3}"));
    write!(
        f,
        "| {} | {} | {} | {:.0} | {:.0} to {:.0} | {cpu} |",
        ByteSize(row.tensor_bytes as u64).display().iec(),
        row.in_flight,
        row.way.name(),
        row.mib_per_s,
        row.least_mib_per_s,
        row.greatest_mib_per_s,
    )?;
    for percentile in &row.latency_ms {
        match percentile.ms {
            Some(ms) => write!(f, " {ms:.3} |")?,
            None => write!(f, " n/a |")?,
        }
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pass(millis: u64) -> Pass {
        let mut latencies = Latencies::new();
        (0..4).for_each(|_| latencies.record(Duration::from_millis(millis)));
        Pass {
            bytes: 1 << 20,
            took: Duration::from_millis(millis),
            cpu: None,
            latencies,
        }
    }

    #[test]
    fn a_row_has_the_median_of_its_rounds_and_what_they_lay_between() {
        let load = Load::new(1 << 20, 1 << 20, 2);
        let row = Row::of(&load, Way::Write, &[pass(1), pass(100), pass(2)]);
        assert_eq!(row.mib_per_s, 500.0);
        assert_eq!(
            (row.least_mib_per_s, row.greatest_mib_per_s),
            (10.0, 1000.0)
        );
        assert_eq!(row.cpu_s_per_gib, None);
    }

    #[test]
    fn percentiles_of_few_samples_are_not_told() {
        let load = Load::new(1 << 20, 1 << 20, 2);
        let row = Row::of(&load, Way::Read, &[pass(1), pass(1)]);
        let told: Vec<bool> = row.latency_ms.iter().map(|one| one.ms.is_some()).collect();
        assert_eq!(told, [true, false, false, false, false, false]);
    }
}
