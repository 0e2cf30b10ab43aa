//! Who runs when, and what of it becomes a figure.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Parser;
use forebay_loadgen::{
    figures::{self, Report},
    spill::{Load, Pass, Target, Way},
};
use tokio::runtime::{Builder, Runtime};

mod files;
mod fio;
mod peer;
mod raw;

use files::Files;
use fio::Fio;
use peer::Peer;
use raw::Raw;

const SIZES: [(usize, &str); 4] = [
    (4 << 10, "4 KiB"),
    (256 << 10, "256 KiB"),
    (4 << 20, "4 MiB"),
    (64 << 20, "64 MiB"),
];
/// Bytes of each pass, and of each side's file.
const TOTAL_BYTES: usize = 512 << 20;
const IN_FLIGHT: usize = 128;
/// What the store has in flight on one disk, and moves in one operation at most.
const DEPTH: usize = 32;
const BLOCK_BYTES: usize = 1 << 20;

/// The store over fio, from [`COMPARED_BYTES`] on.
const LEAST_OF_FIO: f64 = 0.9;
const COMPARED_BYTES: usize = 256 << 10;
/// The store over one file for each tensor, below.
const LEAST_OF_FILES: f64 = 5.0;

const ROUNDS: usize = 7;
const MOST_ROUNDS: usize = 3 * ROUNDS;
/// Ratios within this part of their limit take more rounds.
const UNDECIDED: f64 = 0.05;

/// Memory that is taken first and never used. Without it, whoever asked for memory last was faster as a
/// rule; why is not known. With it the ratios still spread, so that it evens out a part at best.
const BALLAST_BYTES: usize = 1 << 30;

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    figures: figures::Flags,
    /// A folder on the disk; nothing stays in it.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// The fio to run.
    #[arg(long, default_value = "fio")]
    fio: PathBuf,
    /// Compare to TensorNVMe too, which python3 must be able to import.
    #[arg(long)]
    peers: bool,
}

/// What one pass took.
#[derive(Debug, Clone, Copy)]
struct Sample {
    mib_per_s: f64,
    cpu_s_per_gib: f64,
}

impl From<&Pass> for Sample {
    fn from(pass: &Pass) -> Self {
        Self {
            mib_per_s: pass.mib_per_s(),
            cpu_s_per_gib: pass.cpu_s_per_gib().unwrap_or(f64::NAN),
        }
    }
}

/// Whom the store is compared to.
enum Other {
    Fio(Fio),
    Raw(Raw),
    Files(Files),
    Peer(Peer),
}

impl Other {
    fn name(&self) -> &'static str {
        match self {
            Self::Fio(_) => "fio",
            Self::Raw(_) => "bare engine, no fio",
            Self::Files(_) => "a file each",
            Self::Peer(_) => "TensorNVMe",
        }
    }

    fn pass(&mut self, way: Way, load: &Load) -> Result<Sample> {
        let (block, total_bytes) = (load.tensor_bytes.min(BLOCK_BYTES), load.bytes());
        match self {
            Self::Fio(fio) => fio.pass(way, block, total_bytes),
            Self::Raw(raw) => raw.pass(way, block, total_bytes),
            Self::Files(files) => files.pass(way),
            Self::Peer(peer) => peer.pass(way, load),
        }
    }
}

pub(crate) fn run() -> Result<()> {
    let flags = Flags::parse();
    let home = tempfile::tempdir_in(&flags.dir)
        .with_context(|| format!("make a folder in {}", flags.dir.display()))?;
    let mut report = Report::default();
    let mut other = opponent(&flags.fio, home.path())?;
    let peer = flags.peers.then(|| Peer::start(home.path()));
    let mut peer = peer.transpose()?.map(Other::Peer);
    let _ballast = std::hint::black_box(vec![1_u8; BALLAST_BYTES]);
    for (bytes, name) in SIZES {
        let side = Side::open(home.path(), Load::new(bytes, TOTAL_BYTES, IN_FLIGHT))?;
        let limit = (bytes >= COMPARED_BYTES).then_some(LEAST_OF_FIO);
        side.compare(&mut other, limit)?.tell(&mut report, name);
        if let Some(peer) = &mut peer {
            side.compare(peer, None)?.tell(&mut report, name);
        }
        if bytes < COMPARED_BYTES {
            let mut files = Other::Files(Files::make(home.path(), bytes)?);
            let limit = Some(LEAST_OF_FILES);
            side.compare(&mut files, limit)?.tell(&mut report, name);
        }
    }
    report.write_to(&flags.figures.report)
}

/// Finds fio; without it, what the engine itself moves is there to compare to, under its own name.
fn opponent(fio: &Path, dir: &Path) -> Result<Other> {
    match Fio::find(fio, dir) {
        Ok(fio) => Ok(Other::Fio(fio)),
        Err(error) => {
            writeln!(
                io::stderr(),
                "no fio ({error:#}): comparing to the bare engine"
            )?;
            Raw::open(dir, TOTAL_BYTES as u64).map(Other::Raw)
        }
    }
}

/// The store's side, with a store for each size.
struct Side {
    runtime: Runtime,
    target: Target,
    load: Load,
}

impl Side {
    fn open(dir: &Path, load: Load) -> Result<Self> {
        Ok(Self {
            runtime: Builder::new_current_thread()
                .build()
                .context("start the runtime")?,
            target: Target::open(dir, &[load], |_| ())?,
            load,
        })
    }

    /// Lets both run in turn, as often as it takes to tell on which side of `limit` the ratio is.
    fn compare(&self, other: &mut Other, limit: Option<f64>) -> Result<Compared> {
        let mut compared = Compared {
            name: other.name(),
            limit,
            ways: Default::default(),
        };
        // Not counted: the files are written once.
        self.round(0, other)?;
        let mut rounds = ROUNDS;
        let mut round = 0;
        while round < rounds {
            let samples = self.round(round, other)?;
            for (way, sample) in compared.ways.iter_mut().zip(samples) {
                way.push(sample);
            }
            round += 1;
            if round == rounds && rounds < MOST_ROUNDS && compared.is_undecided() {
                rounds += ROUNDS;
            }
        }
        Ok(compared)
    }

    /// One round: each writes, each reads; who is first changes. Returns store and other for each way.
    fn round(&self, round: usize, other: &mut Other) -> Result<[[Sample; 2]; 2]> {
        let Self {
            runtime,
            target,
            load,
        } = self;
        let mut others = |way| other.pass(way, load);
        if round.is_multiple_of(2) {
            let (written, parked) = runtime.block_on(target.write(load))?;
            let write = [Sample::from(&written), others(Way::Write)?];
            let read = runtime.block_on(target.read(load, parked))?;
            return Ok([write, [Sample::from(&read), others(Way::Read)?]]);
        }
        let theirs = others(Way::Write)?;
        let (written, parked) = runtime.block_on(target.write(load))?;
        let write = [Sample::from(&written), theirs];
        let theirs = others(Way::Read)?;
        let read = runtime.block_on(target.read(load, parked))?;
        Ok([write, [Sample::from(&read), theirs]])
    }
}

/// The store beside another, round by round.
struct Compared {
    name: &'static str,
    limit: Option<f64>,
    /// For each way, store and other of each round.
    ways: [Vec<[Sample; 2]>; 2],
}

impl Compared {
    fn is_undecided(&self) -> bool {
        let near = |limit: f64| {
            let mut ratios = self.ways.iter().map(|samples| ratio(samples));
            ratios.any(|ratio| (ratio / limit - 1.0).abs() < UNDECIDED)
        };
        self.limit.is_some_and(near)
    }

    fn tell(&self, report: &mut Report, size: &str) {
        let name = self.name;
        for (way, samples) in Way::BOTH.into_iter().zip(&self.ways) {
            let what = format!("{size} {}", way.name());
            let of = |side: usize, figure: fn(&Sample) -> f64| {
                median(samples.iter().map(|sample| figure(&sample[side])))
            };
            let row = report.figure(format!("{what}: store / {name}"), ratio(samples), "x");
            row.at_least = self.limit;
            for (side, who) in ["store", name].into_iter().enumerate() {
                let rate = of(side, |sample| sample.mib_per_s);
                report.figure(format!("{what}: {who}"), rate, "MiB/s");
                let cpu = of(side, |sample| sample.cpu_s_per_gib);
                report.figure(format!("{what}: {who}, CPU"), cpu, "s/GiB");
            }
        }
    }
}

/// Returns the median of the ratios within each round.
fn ratio(samples: &[[Sample; 2]]) -> f64 {
    median(
        samples
            .iter()
            .map(|[store, other]| store.mib_per_s / other.mib_per_s),
    )
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
