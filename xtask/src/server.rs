//! A running `forebay`: started on a free port, waited for, stopped by SIGTERM.
//!
//! Invariant: the server ends with this value.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{self, Interrupt, Running},
    workspace::Workspace,
};

/// How the server says, on standard output, that it takes calls.
const READY: &str = "listening on ";
/// Loading and warming models takes seconds; a debug build takes its time.
const READY_WITHIN: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);

/// A server that takes calls.
#[derive(Debug)]
pub(crate) struct Server {
    child: Running,
    address: SocketAddr,
}

impl Server {
    /// Starts `program` on the model repository `models`, and waits until it takes calls.
    ///
    /// What it writes goes to the file `log`.
    pub(crate) fn start(
        workspace: &Workspace,
        program: &Path,
        models: &Path,
        log: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("make {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--model-repository"])
            .arg(models);
        workspace.with_libtorch(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(file.try_clone().context("share the log")?);
        // Out of reach of the terminal's Ctrl-C: the server is stopped last, and by us.
        command.process_group(0);
        let mut child = process::spawn(&mut command)?;
        let output = child.take_output().context("take the server's output")?;
        match wait_ready(&mut child, output, file, interrupt) {
            Ok(address) => Ok(Self { child, address }),
            Err(error) => {
                // Ended first, so that its last words are in the log.
                drop(child);
                bail!(
                    "the server did not start: {error:#}; its log ends:\n{}",
                    tail(log)
                )
            }
        }
    }

    /// Returns the address that it takes calls at.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server by SIGTERM and returns how it ended.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        self.child.stop()
    }
}

fn wait_ready(
    child: &mut Running,
    output: ChildStdout,
    log: File,
    interrupt: &Interrupt,
) -> Result<SocketAddr> {
    let ready = watch(output, log);
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        interrupt.check()?;
        match ready.recv_timeout(LOOK) {
            Ok(address) => {
                return address
                    .parse()
                    .with_context(|| format!("the server listens on {address:?}, no address"));
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => {
                bail!("it said no \"{READY}\" within {} s", READY_WITHIN.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait(interrupt)?;
                bail!("it ended with {status} before it took calls")
            }
        }
    }
}

/// Moves the server's output to the log, and gives the address out of it.
///
/// The channel holds one item, because there is one address to tell.
fn watch(output: ChildStdout, mut log: File) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while output.read_line(&mut line).is_ok_and(|length| length > 0) {
            // A log that cannot be written is no reason to let the server's pipe run full.
            let _ = io::Write::write_all(&mut log, line.as_bytes());
            if let Some(address) = line.trim_end().strip_prefix(READY) {
                // Nobody waits for a second address.
                let _ = sender.try_send(address.to_owned());
            }
            line.clear();
        }
    });
    receiver
}

/// Returns the last lines of `log`.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// What to build. One call of cargo builds it all, so that dependencies are built once, with the
/// features that all of it needs.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    pub(crate) release: bool,
    pub(crate) packages: &'a [&'a str],
    pub(crate) bins: &'a [&'a str],
    pub(crate) examples: &'a [&'a str],
}

/// Builds programs and returns where they are.
pub(crate) fn build(
    workspace: &Workspace,
    what: &Build<'_>,
    interrupt: &Interrupt,
) -> Result<Programs> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked"]);
    if what.release {
        cargo.arg("--release");
    }
    for (flag, names) in [
        ("--package", what.packages),
        ("--bin", what.bins),
        ("--example", what.examples),
    ] {
        for name in names {
            cargo.args([flag, name]);
        }
    }
    process::run(&mut cargo, interrupt)?;
    let target = workspace.metadata()?.target_directory;
    let profile = if what.release { "release" } else { "debug" };
    Ok(Programs {
        folder: target.join(profile),
        target,
    })
}

/// Programs that were built.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
    target: PathBuf,
}

impl Programs {
    /// Returns the path of one of them.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes and returns a folder for what a command writes, below cargo's build folder.
    pub(crate) fn reports(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts one of the programs in `testdata` as if it were the server.
    fn start(program: &str) -> Result<Server> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata")
            .join(program);
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let log = folder.path().join("log");
        Server::start(
            &workspace,
            &program,
            folder.path(),
            &log,
            &Interrupt::default(),
        )
    }

    #[test]
    fn a_server_is_ready_at_the_address_it_tells_and_ends_by_sigterm() {
        let server = start("ready").unwrap();
        assert_eq!(server.address(), "127.0.0.1:4242".parse().unwrap());
        assert_eq!(server.stop().unwrap().to_string(), "signal: 15 (SIGTERM)");
    }

    #[test]
    fn a_server_that_ends_early_is_reported_with_its_log() {
        let error = start("fails").unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("no such model"), "{text}");
        assert!(text.contains("ended with exit status: 3"), "{text}");
    }
}
