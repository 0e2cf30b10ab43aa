//! Packages of AOTInductor: exported by the script that users have, served, and their answers held
//! against PyTorch's own.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::Run;
use crate::{
    libtorch, process,
    python::Python,
    say,
    server::{Programs, Server},
    torch_python::TorchPython,
    workspace::Workspace,
};

const EXPORTER: &str = "docs/export/export_aoti.py";
const MODELS: &str = "tests/conformance/aoti/models.py";
/// The functions in `MODELS`, with the exporter's options; the model is named `<function>_aoti`.
const EXPORTS: [(&str, &[&str]); 3] = [
    ("mlp", &["--max-batch", "16", "--instances", "2"]),
    ("resnet18", &["--max-batch", "4"]),
    ("lookup", &["--max-batch", "4"]),
];
/// Compiling takes a minute; more, where the machine is busy.
const EXPORT_LIMIT: Duration = Duration::from_secs(600);

/// Runs the steps, or says why they cannot be run here.
pub(super) fn steps(
    run: &mut Run<'_>,
    programs: &Programs,
    python: &Python,
    packages: &Path,
) -> Result<()> {
    let started = Instant::now();
    let mut paths = packages.as_os_str().to_owned();
    match TorchPython::prepare(run.workspace, python, run.interrupt)? {
        TorchPython::None(reason) => {
            return say(format_args!("skipped packages of AOTInductor: {reason}"));
        }
        TorchPython::Installed => {}
        TorchPython::Folder(folder) => {
            paths.push(":");
            paths.push(folder);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    say(format_args!("python3 has torch, after {seconds:.1} s"))?;

    let models = run.workspace.cache("conformance/aoti");
    let failed = run.failed;
    for (function, options) in EXPORTS {
        run.step(&format!("export {function}_aoti"), |run| {
            export(run, python, &paths, &models, (function, options))
        })?;
    }
    if run.failed > failed {
        // What is served and compared below would not be there.
        return Ok(());
    }
    let forebay = programs.path("forebay");
    run.step("packages that do not fit", |run| {
        let arguments = [forebay.as_os_str(), models.as_os_str()];
        // It compiles a package of its own.
        let mut command = run.python(python, &paths, "package_faults");
        compiles(run.workspace, &mut command);
        run.tests(command.args(arguments), "package_faults", EXPORT_LIMIT)
    })?;
    run.step("packages, held against PyTorch", |run| {
        let log = run.logs.join("server-aoti.log");
        let server = Server::start(run.workspace, &forebay, &models, &log, run.interrupt)?;
        let address = server.address().to_string();
        let done = run.script(python, &paths, "packages", &[address.as_ref()])?;
        let status = server.stop()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(done)
    })
}

/// Exports a model, unless it was exported by the same script before.
fn export(
    run: &Run<'_>,
    python: &Python,
    paths: &OsString,
    models: &Path,
    (function, options): (&str, &[&str]),
) -> Result<String> {
    let name = format!("{function}_aoti");
    let stamp = models.join(format!(".{name}"));
    let wanted = wanted(run.workspace.root(), options)?;
    let target = models.join(&name);
    if target.is_dir() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok("kept from an earlier run".to_owned());
    }
    libtorch::remove(&target)?;
    let mut command = python.command(run.workspace);
    command.arg(EXPORTER).arg(format!("{MODELS}:{function}"));
    command.arg(models).args(["--name", &name]).args(options);
    command.env("PYTHONPATH", paths);
    compiles(run.workspace, &mut command);
    let log = run.logs.join(format!("export-{function}.log"));
    let (status, text) = process::record(&mut command, &log, EXPORT_LIMIT, run.interrupt)?;
    ensure!(status.success(), "it ended with {status}:\n{text}");
    fs::write(&stamp, wanted).context("write the stamp of an export")?;
    let compiled = text.lines().find(|line| line.starts_with("compiled in"));
    Ok(compiled.unwrap_or_default().to_owned())
}

/// Sets `command` up to compile packages.
fn compiles(workspace: &Workspace, command: &mut Command) {
    let cache = workspace.cache("conformance/inductor");
    command.env("TORCHINDUCTOR_CACHE_DIR", cache);
    // What there is to compile is one file after another.
    command.env("TORCHINDUCTOR_COMPILE_THREADS", "1");
}

/// Returns all that an exported model is made of, but for this machine.
fn wanted(root: &Path, options: &[&str]) -> Result<String> {
    let read = |file: &str| {
        let path: PathBuf = root.join(file);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    Ok(format!("{options:?}\n{}{}", read(EXPORTER)?, read(MODELS)?))
}
