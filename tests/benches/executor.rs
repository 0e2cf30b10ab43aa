//! `executor`: the pipeline on the simulated device, through the real scheduler. Throughput against
//! the slowest stage; what is measured and chosen against running inline, at every batch size; a
//! large batch in pieces against the same batch whole.

use std::time::Duration;

use forebay_server::{
    device::simulated::{Costs, Link},
    executor::{Config, Mode},
};
use forebay_tests::{
    figures::Report,
    pipelines::{Bench, ROW_BYTES, auto, compare, median, whole},
};

/// As the rows are worded.
const LEAST_OF_BOUND: f64 = 0.95;
const LEAST_OF_INLINE: f64 = 0.98;

/// A batch of three stages of 10 ms that is cut: clearly less than their sum.
const MOST_OF_SUM: f64 = 0.75;

const SIZES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Threads that the host has once placed well or badly stay so for long, so that each comparison is
/// made with new ones, several times.
const ROUNDS: usize = 3;
const SHORT_ROUNDS: usize = 15;
/// Below this, what the host does with threads is more than the batch itself.
const SHORT: Duration = Duration::from_micros(400);
/// Ratios within this of their limit take more rounds.
const UNDECIDED: f64 = 0.012;
const MOST_ROUNDS: usize = 5 * ROUNDS;
const PAIRS: usize = 9;
const SHORT_PAIRS: usize = 15;
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
                let ratio = compared(load, start)?.ratio;
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
            let ratio = compared(load, |config| Bench::cpu(rows, config))?.ratio;
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

/// What was measured and chosen, against running inline.
struct Compared {
    /// The time inline over the time as chosen: the median of pairs that ran in turn.
    ratio: f64,
    /// The part of the batches that went inline, once the choice had settled.
    inline: f64,
}

fn compared(
    load: Load,
    start: impl Fn(Config) -> anyhow::Result<Bench>,
) -> anyhow::Result<Compared> {
    let (mut ratios, mut round, mut rounds) = (Vec::new(), 0, ROUNDS);
    let (mut inline_count, mut count) = (0, 0);
    while round < rounds {
        let (auto, inline) = (start(auto())?, start(whole(Mode::Inline))?);
        let each = inline.run(20, load.in_flight, 0)? / 20;
        let (warm_up, block, pairs) = if each < SHORT {
            rounds = SHORT_ROUNDS;
            (SHORT_WARM_UP, SHORT_BLOCK, SHORT_PAIRS)
        } else {
            (WARM_UP, BLOCK, PAIRS)
        };
        // Until the choice has settled.
        let warm_up = batches(warm_up, each).clamp(60, 1500);
        auto.run(warm_up, load.in_flight, 0)?;
        let before = auto.ways();
        let block = batches(block, each).clamp(6, 500);
        ratios.extend(compare(
            pairs,
            || inline.run(block, load.in_flight, 0),
            || auto.run(block, load.in_flight, 0),
        )?);
        let after = auto.ways();
        inline_count += after.forebay_inline_count - before.forebay_inline_count;
        count += pairs * block;
        round += 1;
        // Where the ratio is too near its limit to tell, all is measured again and counts together.
        let undecided = (median(ratios.clone()) - LEAST_OF_INLINE).abs() < UNDECIDED;
        if round == rounds && undecided && rounds < MOST_ROUNDS {
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

/// Batches of tens of microseconds, printed without a target: on their own they are known to miss that of
/// longer ones, see `docs/benchmarks.md`. What they do, and what went inline, is there to see.
fn tiny(report: &mut Report) -> anyhow::Result<()> {
    for rows in SIZES {
        for load in LOADS {
            let start = |config| Bench::simulated(TINY.costs(), rows, config);
            let what = format!("{}, batch {rows}, {}", TINY.name, load.name);
            let Compared { ratio, inline } = compared(load, start)?;
            report.figure(format!("{what}: inline / auto"), ratio, "x");
            let against = inline_over_stages(load, start)?;
            report.figure(format!("{what}: inline / stages"), against, "x");
            report.figure(format!("{what}: part that went inline"), inline, "x");
        }
    }
    Ok(())
}

fn inline_over_stages(
    load: Load,
    start: impl Fn(Config) -> anyhow::Result<Bench>,
) -> anyhow::Result<f64> {
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (inline, stages) = (start(whole(Mode::Inline))?, start(whole(Mode::Stages))?);
        let each = inline.run(100, load.in_flight, 0)? / 100;
        stages.run(100, load.in_flight, 0)?;
        let block = batches(SHORT_BLOCK, each).clamp(6, 500);
        ratios.extend(compare(
            SHORT_PAIRS,
            || inline.run(block, load.in_flight, 0),
            || stages.run(block, load.in_flight, 0),
        )?);
    }
    Ok(median(ratios))
}
