//! A bare loop over the model, without a server: what the model costs. Not a peer but a limit.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Setup, cell::Cell, contestant::Arena, cores::spawn_on};
use crate::workspace::Workspace;

/// Beyond the passes: loading the model twice, and choosing its form.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the model did in one form at one batch size.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(crate) struct Rate {
    /// `saved`, `frozen` or `optimized`.
    pub(crate) form: String,
    /// Whether the load chose the form, as the server's does, and did not keep the saved one.
    pub(crate) frozen: bool,
    pub(crate) batch: i64,
    pub(crate) rows_per_s: f64,
}

/// The program that loops.
#[derive(Debug)]
pub(super) struct Bare {
    program: PathBuf,
    fixtures: PathBuf,
    workspace: Workspace,
}

impl Bare {
    pub(super) fn new(setup: &Setup<'_>) -> Self {
        Self {
            program: setup.programs.path("examples/bare_model"),
            fixtures: setup.fixtures.clone(),
            workspace: setup.workspace.clone(),
        }
    }

    /// Runs the model of `cell` at every batch size that its requests in flight can fill, in
    /// `window` altogether.
    pub(super) fn run(&self, arena: &Arena<'_>, cell: Cell, window: Duration) -> Result<Vec<Rate>> {
        let model = cell.load.model();
        let batches = batches(cell);
        let forms = 2.0;
        let seconds = window.as_secs_f64() / (forms * batches.len() as f64);
        let file = self.fixtures.join(model.fixture()).join("1/model.pt");
        let mut command = Command::new(&self.program);
        command.arg(file).args(["--dims", &joined(model.dims())]);
        command.args(["--outputs", &model.outputs().to_string()]);
        command.args(["--batches", &joined(&batches)]);
        command.args(["--seconds", &seconds.to_string()]);
        command.args(model.takes_tokens().then_some("--int64"));
        self.workspace.with_libtorch(&mut command);
        let output = arena.folder.join("bare.json");
        let log = arena.folder.join("bare.log");
        let file = |path| File::create(path).context("make a file for the bare loop");
        command
            .stdin(Stdio::null())
            .stdout(file(&output)?)
            .stderr(file(&log)?);
        let mut child = spawn_on(&arena.cores.server, &mut command)?;
        let ended = child.wait_within(window + PATIENCE, arena.interrupt)?;
        ensure!(
            ended.is_some_and(|status| status.success()),
            "the bare loop did not end well: {}",
            fs::read_to_string(&log).unwrap_or_default().trim()
        );
        let text = fs::read(&output).context("read the rates of the bare loop")?;
        serde_json::from_slice(&text).context("read the rates of the bare loop")
    }
}

/// Returns the batch sizes that the requests in flight can fill.
fn batches(cell: Cell) -> Vec<i64> {
    let sizes = cell.load.model().batches().iter().copied();
    sizes
        .filter(|&size| usize::try_from(size).is_ok_and(|size| size <= cell.concurrency))
        .collect()
}

fn joined(numbers: &[i64]) -> String {
    let numbers: Vec<_> = numbers.iter().map(i64::to_string).collect();
    numbers.join(",")
}

/// Returns the highest rate, in whichever form.
pub(super) fn best(rates: &[Rate]) -> Option<f64> {
    rates.iter().map(|rate| rate.rows_per_s).reduce(f64::max)
}

/// Returns the rate at batches of `rows`, in the faster form at each size and in a straight line
/// between the sizes measured.
pub(super) fn at(rates: &[Rate], rows: f64) -> Option<f64> {
    let mut below: Option<(f64, f64)> = None;
    for (size, rate) in greater(rates) {
        if size < rows {
            below = Some((size, rate));
            continue;
        }
        return Some(match below {
            None => rate,
            Some((less, from)) => from + (rows - less) / (size - less) * (rate - from),
        });
    }
    below.map(|(_, rate)| rate)
}

/// Returns each batch size, in their order, with the greater of its rates. Which form a load chooses is
/// decided by timing, and a wrong choice must not lower what the server is held against.
fn greater(rates: &[Rate]) -> Vec<(f64, f64)> {
    let mut sizes = BTreeMap::new();
    for rate in rates {
        let greatest = sizes.entry(rate.batch).or_insert(rate.rows_per_s);
        *greatest = rate.rows_per_s.max(*greatest);
    }
    let sizes = sizes.into_iter();
    sizes.map(|(size, rate)| (size as f64, rate)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Vec<Rate> {
        let rate = |frozen, batch, rows_per_s| Rate {
            form: String::new(),
            frozen,
            batch,
            rows_per_s,
        };
        vec![
            rate(false, 1, 90.0),
            rate(false, 4, 400.0),
            rate(false, 8, 200.0),
            rate(true, 1, 100.0),
            rate(true, 4, 350.0),
            rate(true, 8, 300.0),
        ]
    }

    #[test]
    fn the_best_rate_is_of_the_faster_form() {
        assert_eq!(best(&rates()), Some(400.0));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn a_rate_between_two_sizes_lies_on_the_line_between_their_faster_forms() {
        let at = |rows| at(&rates(), rows).unwrap();
        assert!((at(2.0) - 200.0).abs() < 1e-9);
        assert!((at(6.0) - 350.0).abs() < 1e-9);
        assert!((at(4.0) - 400.0).abs() < 1e-9);
        // Outside of what was measured, the nearest.
        assert!((at(0.5) - 100.0).abs() < 1e-9 && (at(9.0) - 300.0).abs() < 1e-9);
    }

    #[test]
    fn batches_are_no_larger_than_what_is_in_flight() {
        let cell = |name: &str| super::super::cell::named(name)[0];
        assert_eq!(batches(cell("mlp-stream-c1")), [1]);
        assert_eq!(batches(cell("resnet18-unary-c8")), [1, 2, 4, 8]);
        assert_eq!(batches(cell("mlp-stream-c64")), [1, 2, 4, 8, 16, 32, 64]);
    }
}
