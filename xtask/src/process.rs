//! Child processes: run one to its end, and stop it where people ask for that.
//!
//! Invariant: no child outlives the command that started it; Ctrl-C or SIGTERM to xtask ends
//! children first.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// How often a wait looks around; std has no wait with a limit.
const LOOK: Duration = Duration::from_millis(10);
/// How long a child has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(30);

/// Whether people asked us to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over Ctrl-C and SIGTERM. A second one ends xtask at once.
    pub(crate) fn install() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Registered first, so that it sees the flag as it was before this signal.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)))
                .context("take over signals")?;
        }
        Ok(Self(asked))
    }

    /// Returns an error where people asked us to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }
}

/// Runs `command` to its end, with its output shown as it comes.
pub(crate) fn run(command: &mut Command, interrupt: &Interrupt) -> Result<()> {
    let name = shown(command);
    let child = spawn(command)?;
    let status = Running(child).wait(interrupt)?;
    anyhow::ensure!(status.success(), "`{name}` ended with {status}");
    Ok(())
}

/// Runs `command` to its end and returns what it wrote, however it ended.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    let name = shown(command);
    command.output().with_context(|| format!("start `{name}`"))
}

/// Runs `command` to its end, or for as long as `limit`; returns its status and what it wrote.
///
/// What it wrote is kept in the file `log`.
pub(crate) fn record(
    command: &mut Command,
    log: &Path,
    limit: Duration,
    interrupt: &Interrupt,
) -> Result<(ExitStatus, String)> {
    let file = File::create(log).with_context(|| format!("make {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stderr(file.try_clone().context("share the log")?);
    let mut child = Running(spawn(command.stdout(file))?);
    let status = child.wait_within(limit, interrupt)?;
    let text = fs::read(log).with_context(|| format!("read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match status {
        Some(status) => Ok((status, text)),
        None => bail!(
            "`{}` took longer than {limit:?}; it wrote:\n{text}",
            shown(command)
        ),
    }
}

/// Starts `command`, and names it where that fails.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    command
        .spawn()
        .with_context(|| format!("start `{}`", shown(command)))
}

/// Returns `command` as one would type it, without its environment.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// A child that is stopped when this value is dropped.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Waits for the end, or stops the child where people ask for that.
    pub(crate) fn wait(&mut self, interrupt: &Interrupt) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.look(interrupt)? {
                return Ok(status);
            }
        }
    }

    /// Waits for the end as `wait` does, but for `limit` only; then stops the child.
    pub(crate) fn wait_within(
        &mut self,
        limit: Duration,
        interrupt: &Interrupt,
    ) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.look(interrupt)? {
                return Ok(Some(status));
            }
        }
        self.stop()?;
        Ok(None)
    }

    /// Waits for a moment; returns the status of a child that has ended.
    fn look(&mut self, interrupt: &Interrupt) -> Result<Option<ExitStatus>> {
        let status = self.0.try_wait().context("wait for a child")?;
        if let Err(asked) = interrupt.check() {
            // Ctrl-C reaches the child too, so that it may have ended already.
            self.stop()?;
            return Err(asked);
        }
        if status.is_none() {
            thread::sleep(LOOK);
        }
        Ok(status)
    }

    /// Sends SIGTERM and waits for the end; kills the child that does not heed it.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.0.try_wait().context("wait for a child")? {
            return Ok(status);
        }
        kill_process(Pid::from_child(&self.0), Signal::TERM)
            .map_err(io::Error::from)
            .context("send SIGTERM to a child")?;
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().context("wait for a child")? {
                return Ok(status);
            }
            thread::sleep(LOOK);
        }
        self.0.kill().context("kill a child")?;
        self.0.wait().context("wait for a child")?;
        bail!(
            "a child did not end within {} s of SIGTERM and was killed",
            GRACE.as_secs()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where `stop` went before, this finds the child gone.
        let _ = self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_stops_the_child() {
        let interrupt = Interrupt::default();
        interrupt.0.store(true, Ordering::Relaxed);
        let started = Instant::now();
        let error = run(Command::new("sleep").arg("60"), &interrupt).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_command_that_hangs_is_stopped_and_what_it_wrote_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo waiting; exec sleep 60"]);
        let limit = Duration::from_millis(300);
        let error = record(
            &mut command,
            &folder.path().join("log"),
            limit,
            &Interrupt::default(),
        );
        let text = error.unwrap_err().to_string();
        assert!(
            text.ends_with("took longer than 300ms; it wrote:\nwaiting\n"),
            "{text}"
        );
    }

    #[test]
    fn a_dropped_child_has_ended() {
        let child = Running(spawn(Command::new("sleep").arg("60")).unwrap());
        let pid = Pid::from_child(&child.0);
        drop(child);
        assert!(kill_process(pid, Signal::TERM).is_err());
    }

    #[test]
    fn a_failed_command_is_named_with_its_status() {
        let error = run(&mut Command::new("false"), &Interrupt::default()).unwrap_err();
        assert_eq!(error.to_string(), "`false` ended with exit status: 1");
    }
}
