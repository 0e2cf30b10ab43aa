//! `executor`: the pipeline on the simulated device, through the real scheduler. Throughput against
//! the slowest stage; what is measured and chosen against running inline, at every batch size; a
//! large batch in pieces against the same batch whole.

use std::time::Duration;

use anyhow::Context as _;
use forebay_server::{
    device::simulated::{Costs, Link},
    executor::{Config, Mode},
};
use forebay_tests::{
    figures::Report,
    pipelines::{Bench, ROW_BYTES, auto, compare, median, whole},
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// As the rows are worded.
const LEAST_OF_BOUND: f64 = 0.95;
const LEAST_OF_INLINE: f64 = 0.98;

/// A batch of three stages of 10 ms that is cut: clearly less than their sum.
const MOST_OF_SUM: f64 = 0.75;

const SIZES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Threads that the host has once placed well or badly stay so for long, so that each comparison is
/// made with new ones, several times.
const ROUNDS: usize = 4;
const SHORT_ROUNDS: usize = 16;
/// Below this, what the host does with threads is more than the batch itself.
const SHORT: Duration = Duration::from_micros(400);
/// Ratios within this of their limit take more rounds.
const UNDECIDED: f64 = 0.012;
const MOST_ROUNDS: usize = 5 * ROUNDS;
/// Even, so that each half is as often the one that runs after itself.
const PAIRS: usize = 10;
const SHORT_PAIRS: usize = 16;
const BLOCK: Duration = Duration::from_millis(5);
const SHORT_BLOCK: Duration = Duration::from_millis(2);
const WARM_UP: Duration = Duration::from_millis(100);
const SHORT_WARM_UP: Duration = Duration::from_millis(40);

fn main() -> anyhow::Result<()> {
    let mut report = Report::default();
    bound(&mut report)?;
    micro_batches(&mut report)?;
    for shape in SHAPES {
        for rows in SIZES {
            for load in LOADS {
                let start = |config| Bench::simulated(shape.costs(), rows, config);
                let what = format!("{}, batch {rows}, {}", shape.name, load.name);
                let ratio = compared(load, auto(), UNDECIDED, start)?.ratio;
                let row = report.figure(format!("{what}: inline / auto"), ratio, "x");
                row.at_least = Some(LEAST_OF_INLINE);
            }
        }
    }
    tiny(&mut report)?;
    // On the CPU there is no choice: both halves are the same, and show the noise of the host.
    for rows in [1, 64] {
        for load in LOADS {
            let what = format!("CPU, batch {rows}, {}", load.name);
            let ratio = compared(load, auto(), 0.0, |config| Bench::cpu(rows, config))?.ratio;
            report.figure(format!("{what}: inline / inline"), ratio, "x");
        }
    }
    report.write()
}

/// Throughput under saturation, over what the slowest stage allows. Counted from one answer to another:
/// what it takes to fill the pipe is left out.
fn bound(report: &mut Report) -> anyhow::Result<()> {
    const SKIP: usize = 5;
    for (name, stages, batches) in [
        ("1:1:1", [10.0, 10.0, 10.0], 105),
        ("1:4:1", [5.0, 20.0, 5.0], 55),
        ("4:1:1", [20.0, 5.0, 5.0], 55),
        ("1:1:4", [5.0, 5.0, 20.0], 55),
        ("6.2:58.4:31.6", [6.2, 58.4, 31.6], 25),
    ] {
        let bench = Bench::simulated(fixed(stages), 1, auto())?;
        let took = bench.run(batches, 8, SKIP)?;
        let slowest = stages.into_iter().fold(0.0, f64::max) / 1e3;
        let share = slowest * (batches - SKIP) as f64 / took.as_secs_f64();
        let what = format!("{name}: throughput / bound of the slowest stage");
        report.figure(what, share, "x").at_least = Some(LEAST_OF_BOUND);
        let figures = bench.pipeline();
        let of_busy = |nanos: u64| nanos as f64 / figures.busy_ns as f64;
        let stages = figures.h2d_ns + figures.compute_ns + figures.d2h_ns;
        report.figure(format!("{name}: stages / time busy"), of_busy(stages), "x");
        let computing = of_busy(figures.computing_ns);
        report.figure(
            format!("{name}: time computing / time busy"),
            computing,
            "x",
        );
    }
    Ok(())
}

/// A large batch on its own.
fn micro_batches(report: &mut Report) -> anyhow::Result<()> {
    const ROWS: usize = 256;
    let stage = Duration::from_millis(10);
    let link = Link {
        latency: Duration::ZERO,
        bytes_per_second: Some((ROWS * ROW_BYTES) as u64 * 100),
    };
    let costs = Costs {
        h2d: link,
        compute_per_row: stage / 256,
        d2h: link,
        ..Costs::default()
    };
    let cut = Bench::simulated(costs, ROWS, auto())?;
    let whole = Bench::simulated(costs, ROWS, whole(Mode::Auto))?;
    cut.run(200, 1, 0)?;
    whole.run(20, 1, 0)?;
    let took = cut.run(20, 1, 0)? / 20;
    let what = "256 rows of 10/10/10 ms on their own: time / sum of the stages";
    report
        .figure(what, took.div_duration_f64(3 * stage), "x")
        .at_most = Some(MOST_OF_SUM);
    let gain = median(compare(5, || whole.run(4, 1, 0), || cut.run(4, 1, 0))?);
    report.figure("the same: uncut / cut", gain, "x").at_least = Some(LEAST_OF_INLINE);
    Ok(())
}

fn fixed([h2d, compute, d2h]: [f64; 3]) -> Costs {
    let link = |ms: f64| Link {
        latency: Duration::from_secs_f64(ms / 1e3),
        bytes_per_second: None,
    };
    Costs {
        h2d: link(h2d),
        compute: Duration::from_secs_f64(compute / 1e3),
        d2h: link(d2h),
        ..Costs::default()
    }
}

/// How the times of the stages grow with the rows, in microseconds: for the copies and for the pass,
/// what any batch takes, and each row.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    copy: [u64; 2],
    pass: [u64; 2],
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "tiny copies",
        copy: [5, 0],
        pass: [500, 10],
    },
    Shape {
        name: "like copies",
        copy: [300, 8],
        pass: [300, 8],
    },
];

const TINY: Shape = Shape {
    name: "tiny pass",
    copy: [0, 0],
    pass: [0, 0],
};

impl Shape {
    fn costs(&self) -> Costs {
        let link = Link {
            latency: Duration::from_micros(self.copy[0]),
            bytes_per_second: (ROW_BYTES as u64 * 1_000_000).checked_div(self.copy[1]),
        };
        Costs {
            h2d: link,
            compute: Duration::from_micros(self.pass[0]),
            compute_per_row: Duration::from_micros(self.pass[1]),
            d2h: link,
        }
    }
}

#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    in_flight: usize,
}

const LOADS: [Load; 2] = [
    Load {
        name: "alone",
        in_flight: 1,
    },
    Load {
        name: "saturated",
        in_flight: 16,
    },
];

/// A configuration, against running inline.
struct Compared {
    /// The time inline over the configuration's: the median of pairs that ran in turn.
    ratio: f64,
    /// The part of the batches that went inline, once the choice had settled.
    inline: f64,
}

/// Compares pipelines of `config` with inline ones. Where their ratio is within `undecided` of its limit, all
/// is measured again and counts together.
fn compared(
    load: Load,
    config: Config,
    undecided: f64,
    start: impl Fn(Config) -> anyhow::Result<Bench>,
) -> anyhow::Result<Compared> {
    let (mut ratios, mut round, mut rounds) = (Vec::new(), 0, ROUNDS);
    let (mut inline_count, mut count) = (0, 0);
    while round < rounds {
        let (one, inline) = both(round % 2 == 0, &start, config)?;
        let each = inline.run(20, load.in_flight, 0)? / 20;
        let (warm_up, block, pairs) = if each < SHORT {
            rounds = rounds.max(SHORT_ROUNDS);
            (SHORT_WARM_UP, SHORT_BLOCK, SHORT_PAIRS)
        } else {
            (WARM_UP, BLOCK, PAIRS)
        };
        // Until the choice has settled. Threads that have run for longer run faster, or slower.
        let warm_up = batches(warm_up, each).clamp(60, 1500);
        one.run(warm_up, load.in_flight, 0)?;
        inline.run(warm_up, load.in_flight, 0)?;
        let before = one.ways();
        let block = batches(block, each).clamp(6, 500);
        ratios.extend(compare(
            pairs,
            || inline.run(block, load.in_flight, 0),
            || one.run(block, load.in_flight, 0),
        )?);
        let after = one.ways();
        inline_count += after.forebay_inline_count - before.forebay_inline_count;
        count += pairs * block;
        round += 1;
        let distance = (median(ratios.clone()) - LEAST_OF_INLINE).abs();
        if round == rounds && distance < undecided && rounds < MOST_ROUNDS {
            rounds += ROUNDS;
        }
    }
    Ok(Compared {
        ratio: median(ratios),
        inline: inline_count as f64 / count as f64,
    })
}

/// Returns how many batches that take `each` run in `time`.
fn batches(time: Duration, each: Duration) -> usize {
    let count = time.as_nanos() / each.as_nanos().max(1);
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Starts a pipeline of `config`, and one that runs inline. Where the host places threads depends on those
/// that are there before, so either is to be the first in turn.
fn both(
    inline_last: bool,
    start: impl Fn(Config) -> anyhow::Result<Bench>,
    config: Config,
) -> anyhow::Result<(Bench, Bench)> {
    if inline_last {
        let one = start(config)?;
        return Ok((one, start(whole(Mode::Inline))?));
    }
    let inline = start(whole(Mode::Inline))?;
    Ok((start(config)?, inline))
}

/// Batches of tens of microseconds, on one core: to tell a hundredth of them apart takes all sizes together.
/// On several cores, which one the host wakes a thread on is more than the batch itself: those are printed
/// beside what inline against inline shows.
fn tiny(report: &mut Report) -> anyhow::Result<()> {
    let cores = sched_getaffinity(None)?;
    let mut one_core = CpuSet::new();
    let last = (0..CpuSet::MAX_CPU).rfind(|core| cores.is_set(*core));
    one_core.set(last.context("run on a core")?);
    for load in LOADS {
        let mut ratios = Vec::new();
        for rows in SIZES {
            let start = |config| Bench::simulated(TINY.costs(), rows, config);
            let what = format!("{}, batch {rows}, {}", TINY.name, load.name);
            // The threads that start inherit it.
            sched_setaffinity(None, &one_core)?;
            let Compared { ratio, inline } = compared(load, auto(), 0.0, start)?;
            sched_setaffinity(None, &cores)?;
            ratios.push(ratio);
            report.figure(format!("{what}, one core: inline / auto"), ratio, "x");
            report.figure(
                format!("{what}, one core: part that went inline"),
                inline,
                "x",
            );
            let Compared { ratio, inline } = compared(load, auto(), 0.0, start)?;
            report.figure(format!("{what}: inline / auto"), ratio, "x");
            report.figure(format!("{what}: part that went inline"), inline, "x");
            let ratio = compared(load, whole(Mode::Inline), 0.0, start)?.ratio;
            report.figure(format!("{what}: inline / inline"), ratio, "x");
        }
        let what = format!(
            "{}, {}, one core: inline / auto, median",
            TINY.name, load.name
        );
        report.figure(what, median(ratios), "x").at_least = Some(LEAST_OF_INLINE);
    }
    Ok(())
}
