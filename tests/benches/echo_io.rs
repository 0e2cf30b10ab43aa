//! `echo-io`: 64 clients on slow networks, and a model of 5 ms, on the simulated device. The run
//! should take the larger of network and compute, not their sum.

use std::time::Duration;

use forebay_tests::{figures::Report, slow_clients::Load};

/// As the row is worded: within 10 % of the larger of network and compute.
const MOST_OVER_BOUND: f64 = 1.10;

const COMPUTE_BOUND: &str = "compute-bound";
const NETWORK_BOUND: &str = "network-bound";

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
    for (case, tensors, batch) in [(COMPUTE_BOUND, 20, 1), (NETWORK_BOUND, 40, 64)] {
        let load = Load {
            tensors,
            batch,
            ..LOAD
        };
        let figures = load.run().await;
        for (what, time) in [
            ("network alone", figures.io),
            ("compute alone", figures.compute),
            ("total", figures.total),
        ] {
            report.figure(format!("{case}: {what}"), time.as_secs_f64(), "s");
        }
        // What binds each case is given and not measured: batches that are not joined as they should
        // be make the second one compute-bound, and miss its target.
        let bound = match case {
            COMPUTE_BOUND => figures.compute,
            _ => figures.io,
        };
        let over = figures.total.div_duration_f64(bound);
        let what = format!("{case}: total / what binds it");
        report.figure(what, over, "x").at_most = Some(MOST_OVER_BOUND);
    }
    report.write()
}
