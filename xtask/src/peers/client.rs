//! The one client that drives every server: `loadgen run` in a closed loop, on a core of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    cell::{Cell, Mode},
    contestant::{Arena, Contestant},
    cores::spawn_on,
};

/// Beyond warm-up and window: slow models, whose requests in flight are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one run measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// Answers a second in the measured window.
    pub(crate) per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Whether there were too few answers for a p99, and `p99_ms` is the slowest of them.
    pub(crate) p99_is_slowest: bool,
    pub(crate) slowest_ms: f64,
    /// Time on cores of the server and its children for each request, warm-up included.
    pub(crate) cpu_us: f64,
    /// Most resident memory of the server and its children.
    pub(crate) peak_bytes: u64,
    /// The part of its core that the client used.
    pub(crate) client_share: Option<f64>,
    /// Rows of a batch, where the server tells.
    pub(crate) mean_batch: Option<f64>,
}

/// `loadgen`.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) program: PathBuf,
}

impl Client {
    /// Offers the load of `cell` to `server` for `window`, after a third of that to warm up.
    ///
    /// # Errors
    /// Requests failed, or the server went away: such a run has no figures.
    pub(crate) fn run(
        &self,
        arena: &Arena<'_>,
        server: &Contestant,
        cell: Cell,
        window: Duration,
    ) -> Result<Sample> {
        let report = arena.folder.join("loadgen.json");
        let log = arena.folder.join("loadgen.log");
        let warmup = window / 3;
        let mut command = self.command(&server.endpoint(), cell, &report);
        command.args(["--duration", &millis(window), "--warmup", &millis(warmup)]);
        let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        if report.exists() {
            // Figures of an earlier run must not pass for this one's.
            fs::remove_file(&report).context("remove an earlier report")?;
        }
        let tree = server.tree();
        tree.forget_peak()?;
        let before = tree.cpu()?;
        let mut loadgen = spawn_on(&arena.cores.client, &mut command)?;
        let limit = window + warmup + PATIENCE;
        let ended = loadgen.wait_within(limit, arena.interrupt)?;
        let (cpu, peak) = (tree.cpu()?, tree.peak()?);
        ensure!(ended.is_some(), "the client did not end in time");
        ensure!(
            report.exists(),
            "the client measured nothing: {}",
            fs::read_to_string(&log).unwrap_or_default().trim()
        );
        sample(&read(&report)?, cpu.saturating_sub(before), peak)
    }

    fn command(&self, endpoint: &str, cell: Cell, report: &Path) -> Command {
        let mut command = Command::new(&self.program);
        let concurrency = cell.concurrency.to_string();
        command.args(["run", "--quiet", "--endpoint", endpoint]);
        command.args(["--model", &cell.model(), "--mode", &cell.mode.to_string()]);
        command.args(["--concurrency", &concurrency, "--connections", "1"]);
        if cell.mode == Mode::Stream {
            command.args(["--streams", &concurrency]);
        }
        if let Some(elements) = cell.load.elements() {
            command.args(["--shape", &format!("INPUT__0:{elements}")]);
        }
        command.arg("--json").arg(report);
        command
    }
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// What is read of loadgen's report.
#[derive(Debug, Deserialize)]
struct Report {
    verdict: Verdict,
    counts: Counts,
    throughput: Throughput,
    latency: Latency,
    server: Server,
    client: ClientShare,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    reasons: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Counts {
    warmup: u64,
    offered: u64,
    completed_ok: u64,
    failures: std::collections::BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Throughput {
    window_requests_per_s: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Latency {
    response: Distribution,
}

#[derive(Debug, Deserialize)]
struct Distribution {
    max_ms: Option<f64>,
    percentiles: Vec<Percentile>,
}

#[derive(Debug, Deserialize)]
struct Percentile {
    name: String,
    value_ms: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Server {
    statistics: Option<Statistics>,
}

#[derive(Debug, Deserialize)]
struct Statistics {
    mean_batch: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct ClientShare {
    cpu_share: Option<f64>,
}

impl Distribution {
    /// Returns a percentile, or the slowest where there are too few for it, and whether that is so.
    fn percentile(&self, name: &str) -> Option<(f64, bool)> {
        let found = self.percentiles.iter().find(|found| found.name == name);
        match found.and_then(|found| found.value_ms) {
            Some(value) => Some((value, false)),
            None => self.max_ms.map(|slowest| (slowest, true)),
        }
    }
}

fn read(file: &Path) -> Result<Report> {
    let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
}

fn sample(report: &Report, cpu: Duration, peak_bytes: u64) -> Result<Sample> {
    let counts = &report.counts;
    ensure!(
        counts.offered > 0,
        "no request was sent after the warm-up; it needs more --seconds"
    );
    ensure!(
        counts.completed_ok == counts.offered,
        "{} of {} requests got no right answer: {:?} {}",
        counts.offered - counts.completed_ok,
        counts.offered,
        counts.failures,
        report.verdict.reasons.join("; ")
    );
    let response = &report.latency.response;
    let (p50_ms, _) = response.percentile("p50").context("there is a median")?;
    let (p99_ms, p99_is_slowest) = response.percentile("p99").context("there is a p99")?;
    let requests = (counts.warmup + counts.offered) as f64;
    let rate = report.throughput.window_requests_per_s;
    Ok(Sample {
        per_s: rate.context("the load was not offered for all of the window")?,
        p50_ms,
        p99_ms,
        p99_is_slowest,
        slowest_ms: response.max_ms.context("there is a slowest answer")?,
        cpu_us: cpu.as_secs_f64() * 1e6 / requests,
        peak_bytes,
        client_share: report.client.cpu_share,
        mean_batch: report
            .server
            .statistics
            .as_ref()
            .and_then(|told| told.mean_batch),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ok: u64, p99: &str) -> Report {
        serde_json::from_str(&format!(
            r#"{{"verdict": {{"reasons": []}},
                "counts": {{"warmup": 100, "offered": 300, "completed_ok": {ok}, "failures": {{}}}},
                "throughput": {{"window_requests_per_s": 99.5}},
                "latency": {{"response": {{"max_ms": 7.0, "percentiles": [
                    {{"name": "p50", "value_ms": 2.0}}, {{"name": "p99", "value_ms": {p99}}}]}}}},
                "server": {{"statistics": null}}, "client": {{"cpu_share": 0.5}}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn time_on_cores_is_shared_by_all_requests_of_the_run() {
        let cpu = Duration::from_millis(4);
        let sample = sample(&report(300, "5.0"), cpu, 1).unwrap();
        assert!((sample.cpu_us - 10.0).abs() < 1e-9);
        assert_eq!((sample.p99_ms, sample.p99_is_slowest), (5.0, false));
        assert!((sample.slowest_ms - 7.0).abs() < 1e-9);
    }

    #[test]
    fn too_few_answers_for_a_p99_give_the_slowest() {
        let sample = sample(&report(300, "null"), Duration::ZERO, 1).unwrap();
        assert_eq!((sample.p99_ms, sample.p99_is_slowest), (7.0, true));
    }

    #[test]
    fn a_run_without_its_whole_window_has_no_figures() {
        let mut report = report(300, "5.0");
        report.throughput.window_requests_per_s = None;
        let error = sample(&report, Duration::ZERO, 1).unwrap_err();
        assert!(error.to_string().contains("all of the window"), "{error}");
    }

    #[test]
    fn a_run_with_a_failed_request_has_no_figures() {
        let error = sample(&report(299, "5.0"), Duration::ZERO, 1).unwrap_err();
        assert!(error.to_string().starts_with("1 of 300 requests"));
    }
}
