//! `echo-io`: 64 clients on slow networks, and a model of 5 ms, on the simulated device. The run
//! should take the larger of network and compute, not their sum.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use forebay_tests::slow_clients::{Figures, Load};
use serde::Serialize;

/// As the row is worded: within 10 % of the larger of network and compute.
const MOST_OVER_BOUND: f64 = 1.10;

const LOAD: Load = Load {
    clients: 64,
    tensors: 20,
    send: Duration::from_millis(50),
    compute: Duration::from_millis(5),
    batch: 1,
};

#[derive(Parser)]
struct Flags {
    /// Where to write the figures.
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    /// Added by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    at_most: Option<f64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let mut rows = Vec::new();
    for (case, batch) in [("compute-bound", 1), ("network-bound", 64)] {
        let figures = Load { batch, ..LOAD }.run().await;
        rows.extend(table(case, &figures));
    }
    let report = serde_json::to_vec_pretty(&Report { rows }).context("write the report as JSON")?;
    let file = flags.report;
    fs::write(&file, report).with_context(|| format!("write {}", file.display()))
}

fn table(case: &str, figures: &Figures) -> [Row; 4] {
    let row = |what: &str, value, unit, at_most| Row {
        what: format!("{case}: {what}"),
        value,
        unit,
        at_most,
    };
    let seconds = |what, duration: Duration| row(what, duration.as_secs_f64(), "s", None);
    [
        seconds("network alone", figures.io),
        seconds("compute alone", figures.compute),
        seconds("total", figures.total),
        row(
            "total / the larger",
            figures.over_bound(),
            "x",
            Some(MOST_OVER_BOUND),
        ),
    ]
}
