//! `cargo xtask demo`: the whole of Forebay on real input, from nothing.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};

use crate::{
    fixtures, libtorch,
    process::{self, Interrupt},
    say,
    server::{self, Build, Programs, Server},
    workspace::Workspace,
};

const RECORDING: &str = "tests/data/speech.wav";
/// Long enough for a percentile, short enough to wait for.
const LOAD: [&str; 10] = [
    "--mode",
    "stream",
    "--model",
    "resnet18",
    "--concurrency",
    "4",
    "--duration",
    "8s",
    "--batch",
    "1",
];

/// Runs the demo.
pub(crate) fn command(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    libtorch::ensure(workspace, interrupt)?;
    say(format_args!("\n== build, in release"))?;
    let what = Build {
        release: true,
        packages: &[
            "forebay-server",
            "forebay-loadgen",
            "forebay-tests",
            "forebay-client",
        ],
        bins: &["forebay", "loadgen", "make-models"],
        examples: &["vad_stream"],
    };
    let programs = server::build(workspace, &what, interrupt)?;

    let models = workspace.cache("demo/models");
    say(format_args!("\n== models, in {}", workspace.shown(&models)))?;
    let makes = programs.path("make-models");
    fixtures::made(workspace, &makes, &models, &["resnet18"], interrupt)?;
    fixtures::silero(workspace, &models, interrupt)?;

    let reports = programs.reports("demo")?;
    let log = reports.join("server.log");
    let server = Server::start(
        workspace,
        &programs.path("forebay"),
        &models,
        &log,
        interrupt,
    )?;
    let address = server.address();
    say(format_args!(
        "\n== the server takes calls at {address}; its log: {}",
        workspace.shown(&log)
    ))?;

    let endpoint = format!("http://{address}");
    find_speech(workspace, &programs, &endpoint, interrupt)?;
    load(workspace, &programs, &endpoint, &reports, interrupt)?;

    let status = server.stop()?;
    say(format_args!(
        "\n== the server finished what it had accepted and ended: {status}"
    ))?;
    ensure!(
        status.success(),
        "the server ended with {status} on SIGTERM; see {}",
        log.display()
    );
    tell(workspace, &models, &reports)
}

/// Streams the recording through the speech detector.
fn find_speech(
    workspace: &Workspace,
    programs: &Programs,
    endpoint: &str,
    interrupt: &Interrupt,
) -> Result<()> {
    say(format_args!(
        "\n== speech in {RECORDING}, found by silero_vad as it is streamed"
    ))?;
    let mut example = Command::new(programs.path("examples/vad_stream"));
    example
        .current_dir(workspace.root())
        .args(["--endpoint", endpoint])
        .arg(RECORDING);
    process::run(workspace.with_libtorch(&mut example), interrupt)
}

/// Measures latency under load.
fn load(
    workspace: &Workspace,
    programs: &Programs,
    endpoint: &str,
    reports: &Path,
    interrupt: &Interrupt,
) -> Result<()> {
    say(format_args!(
        "\n== resnet18 under load: 4 requests in flight, over a stream"
    ))?;
    let mut loadgen = Command::new(programs.path("loadgen"));
    loadgen.args(["run", "--endpoint", endpoint]).args(LOAD);
    loadgen.arg("--json").arg(reports.join("resnet18.json"));
    loadgen.arg("--html").arg(reports.join("resnet18.html"));
    process::run(workspace.with_libtorch(&mut loadgen), interrupt)
}

fn tell(workspace: &Workspace, models: &Path, reports: &Path) -> Result<()> {
    let (models, reports) = (workspace.shown(models), workspace.shown(reports));
    say(format_args!(
        "\n\
         Forebay served two models over bidirectional gRPC streams:\n  \
           silero_vad  found the speech in {RECORDING}, chunk by chunk\n  \
           resnet18    was driven by the load generator, which wrote its report\n\n\
         Where to look next:\n  \
           {reports}/resnet18.html  the report, in a browser\n  \
           {models}  the model repository, in Triton's layout\n  \
           client/examples/vad_stream/main.rs  a client that streams\n  \
           README.md  your own model and client;  docs/architecture.md  how it works"
    ))
}
