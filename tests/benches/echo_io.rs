//! `echo-io`: 64 clients on slow networks, and a model of 5 ms, on the simulated device. The run
//! should take the larger of network and compute, not their sum.

use std::time::Duration;

use forebay_tests::{figures::Report, slow_clients::Load};

/// As the row is worded: within 10 % of the larger of network and compute.
const MOST_OVER_BOUND: f64 = 1.10;

const LOAD: Load = Load {
    clients: 64,
    tensors: 20,
    send: Duration::from_millis(50),
    compute: Duration::from_millis(5),
    batch: 1,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut report = Report::default();
    for (case, batch) in [("compute-bound", 1), ("network-bound", 64)] {
        let figures = Load { batch, ..LOAD }.run().await;
        for (what, time) in [
            ("network alone", figures.io),
            ("compute alone", figures.compute),
            ("total", figures.total),
        ] {
            report.figure(format!("{case}: {what}"), time.as_secs_f64(), "s");
        }
        let what = format!("{case}: total / the larger");
        report.figure(what, figures.over_bound(), "x").at_most = Some(MOST_OVER_BOUND);
    }
    report.write()
}
