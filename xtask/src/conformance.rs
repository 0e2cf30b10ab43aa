//! `cargo xtask conformance`: clients that nobody here wrote, against a running server.
//!
//! `tritonclient` by the scripts in `tests/conformance`, then `perf_analyzer`, then packages that
//! AOTInductor made. Every step says how it went; all are run, and one that failed fails the whole.

use std::{
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    conformance::perf_analyzer::PerfAnalyzer,
    fixtures, libtorch,
    process::{self, Interrupt},
    python::Python,
    say,
    server::{self, Build, Programs, Server},
    workspace::Workspace,
};

mod aoti;
mod perf_analyzer;
mod repository;

/// tritonclient is what Triton's users have; the versions are those that the contract was read in.
const PACKAGES: [&str; 3] = [
    "tritonclient[grpc]==2.73.0",
    "grpcio-reflection==1.81.1",
    "numpy",
];
/// The scripts in `tests/conformance`; each is one step.
const SCRIPTS: [&str; 5] = ["health", "infer", "datatypes", "stream", "errors"];
/// The models that the scripts and `perf_analyzer` ask for, beside the identity models.
const MODELS: [&str; 2] = ["simple", "mlp"];
/// A script that takes longer hangs.
const SCRIPT_LIMIT: Duration = Duration::from_secs(60);

/// Runs the clients and counts what failed.
#[derive(Debug)]
struct Run<'a> {
    workspace: &'a Workspace,
    interrupt: &'a Interrupt,
    logs: PathBuf,
    failed: usize,
}

/// Runs all of it.
pub(crate) fn command(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    libtorch::ensure(workspace, interrupt)?;
    let python = Python::find()?;
    let packages = python.packages(workspace, &PACKAGES, interrupt)?;
    let analyzer = PerfAnalyzer::prepare(workspace, interrupt)?;

    let what = Build {
        release: false,
        packages: &["forebay-server", "forebay-tests", "forebay-client"],
        bins: &["forebay", "make-models"],
        examples: &["quickstart"],
    };
    let programs = server::build(workspace, &what, interrupt)?;
    let models = workspace.cache("conformance/models");
    repository::write_identities(&models)?;
    fixtures::made(
        workspace,
        &programs.path("make-models"),
        &models,
        &MODELS,
        interrupt,
    )?;

    let mut run = Run {
        workspace,
        interrupt,
        logs: programs.reports("conformance")?,
        failed: 0,
    };
    let log = run.logs.join("server.log");
    let server = Server::start(
        workspace,
        &programs.path("forebay"),
        &models,
        &log,
        interrupt,
    )?;
    let address = server.address().to_string();
    for script in SCRIPTS {
        run.step(script, |run| {
            run.script(&python, packages.as_os_str(), script, &[address.as_ref()])
        })?;
    }
    run.step("the README's examples", |run| {
        run.readme(&programs, &python, &packages, &address)
    })?;
    for load in perf_analyzer::LOADS {
        run.step(&load.to_string(), |run| {
            run.analyze(&analyzer, load, &address)
        })?;
    }
    run.step("server ends by SIGTERM with status 0", |_| {
        let status = server.stop()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(String::new())
    })?;
    aoti::steps(&mut run, &programs, &python, &packages)?;
    ensure!(
        run.failed == 0,
        "{} steps failed; what they wrote is in {}",
        run.failed,
        workspace.shown(&run.logs)
    );
    Ok(())
}

impl Run<'_> {
    /// Does one step and says how it went; only people's wish to stop ends the run.
    fn step(&mut self, name: &str, work: impl FnOnce(&Self) -> Result<String>) -> Result<()> {
        let started = Instant::now();
        let done = work(self);
        self.interrupt.check()?;
        let seconds = started.elapsed().as_secs_f64();
        match done {
            Ok(detail) => {
                let line = format!("ok      {name}  ({seconds:.1} s)  {detail}");
                say(format_args!("{}", line.trim_end()))
            }
            Err(error) => {
                self.failed += 1;
                say(format_args!("FAILED  {name}  ({seconds:.1} s)\n{error:#}"))
            }
        }
    }

    /// Runs the tests of a script in `tests/conformance`.
    fn script(
        &self,
        python: &Python,
        packages: &OsStr,
        name: &str,
        arguments: &[&OsStr],
    ) -> Result<String> {
        let mut command = python.command(self.workspace);
        command
            .arg(format!("tests/conformance/{name}.py"))
            .args(arguments);
        self.workspace.with_libtorch(&mut command);
        command.env("PYTHONPATH", packages);
        let log = self.logs.join(format!("{name}.log"));
        let (status, text) = process::record(&mut command, &log, SCRIPT_LIMIT, self.interrupt)?;
        ensure!(status.success(), "{text}");
        let count = text.lines().rev().find(|line| line.starts_with("Ran "));
        let count = count.context("no test ran")?;
        // "Ran 12 tests in 0.3s": what takes time is the interpreter, and we say that.
        Ok(count.split(" in ").next().unwrap_or_default().to_owned())
    }

    /// Runs the two examples of the README as they stand there.
    fn readme(
        &self,
        programs: &Programs,
        python: &Python,
        packages: &Path,
        address: &str,
    ) -> Result<String> {
        let mut rust = Command::new(programs.path("examples/quickstart"));
        rust.arg(format!("http://{address}"));
        let mut with_triton = python.command(self.workspace);
        with_triton
            .args(["tests/conformance/quickstart.py", address])
            .env("PYTHONPATH", packages);
        for (name, mut command) in [("rust", rust), ("python", with_triton)] {
            let log = self.logs.join(format!("quickstart-{name}.log"));
            let (status, text) = process::record(&mut command, &log, SCRIPT_LIMIT, self.interrupt)?;
            ensure!(
                status.success(),
                "the {name} example ended with {status}:\n{text}"
            );
        }
        Ok("Rust and Python".to_owned())
    }

    fn analyze(
        &self,
        analyzer: &PerfAnalyzer,
        load: perf_analyzer::Load,
        address: &str,
    ) -> Result<String> {
        let log = self.logs.join(format!("{}.log", load.file_name()));
        let mut command = analyzer.command(load, address);
        let limit = perf_analyzer::LIMIT;
        let (status, text) = process::record(&mut command, &log, limit, self.interrupt)?;
        ensure!(status.success(), "it ended with {status}:\n{text}");
        match perf_analyzer::table(&text) {
            Some(table) => Ok(format!("\n{table}\n")),
            None => bail!("it printed no breakdown of the server's time:\n{text}"),
        }
    }
}

impl fmt::Display for perf_analyzer::Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            model,
            mode,
            concurrency,
        } = self;
        write!(
            f,
            "perf_analyzer {model}, {mode}, concurrency {concurrency}"
        )
    }
}
