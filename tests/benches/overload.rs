//! `overload`: ten times as many bytes of requests at once as the host budget holds, against the real
//! binary, with a disk to spill to and without.

use std::time::Duration;

use anyhow::ensure;
use forebay_tests::{figures::Report, overload::Overload};

/// As the row is worded.
const LEAST: f64 = 0.95;
const MOST_MEMORY: f64 = 1.25;
const ROUNDS: usize = 3;

const LOAD: Overload = Overload {
    budget: 256 << 20,
    streams: 32,
    requests: 160,
    elements: 128 << 10,
    pass: Duration::from_millis(20),
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut report = Report::default();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let spill = format!(
        "dirs = ['{}']\ncapacity = \"4 GiB\"\nmin_free = \"1 MiB\"",
        folder.path().display()
    );
    let all = LOAD.streams * LOAD.requests;
    let (mut ratios, mut peaks) = (Vec::new(), [Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        let mut took = [0.0; 2];
        for (index, spill) in ["", &spill].into_iter().enumerate() {
            let mut server = LOAD.serve(spill).await;
            let outcome = LOAD.run(&server).await?;
            server.sigterm().await;
            ensure!(
                server.wait().await.success(),
                "the server ended in disorder"
            );
            ensure!(
                outcome.right == all,
                "of {all} requests {outcome:?} were answered rightly"
            );
            took[index] = outcome.took.as_secs_f64();
            peaks[index].push(outcome.peak as f64 / LOAD.budget as f64);
            eprintln!("spill {}: {outcome:?}", index == 1);
        }
        ratios.push(took[0] / took[1]);
    }
    let [peak, peak_spilling] = peaks.map(|peaks| peaks.into_iter().fold(0.0, f64::max));
    report.figure("requests", all as f64, "");
    report.figure(
        "bytes of them / budget",
        LOAD.bytes() as f64 / LOAD.budget as f64,
        "x",
    );
    report
        .figure("most memory / budget, without a disk", peak, "x")
        .at_most = Some(MOST_MEMORY);
    report
        .figure("most memory / budget, spilling", peak_spilling, "x")
        .at_most = Some(MOST_MEMORY);
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ratios.len() / 2];
    report
        .figure("throughput, spilling / without", ratio, "x")
        .at_least = Some(LEAST);
    report.write()
}
