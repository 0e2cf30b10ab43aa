//! Child processes: run one to its end, and stop it where people ask for that.
//!
//! Invariant: no child outlives the command that started it; Ctrl-C or SIGTERM to xtask ends
//! children first.

use std::{
    io,
    process::{Child, Command, ExitStatus, Output},
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
            if let Some(status) = self.0.try_wait().context("wait for a child")? {
                // A child that Ctrl-C reached too has ended by it: that is the reason to give.
                interrupt.check()?;
                return Ok(status);
            }
            if let Err(asked) = interrupt.check() {
                self.stop()?;
                return Err(asked);
            }
            thread::sleep(LOOK);
        }
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
