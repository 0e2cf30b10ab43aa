//! Child processes: run one to its end, and stop it where people ask for that.
//!
//! Invariant: no child that is waited for here outlives the command that started it, and nothing of a
//! group outlives its leader; Ctrl-C or SIGTERM to xtask ends children first, and another one, a second
//! or more later, kills them.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use self::children::Target;
pub(crate) use self::interrupt::Interrupt;

mod children;
mod interrupt;

/// How often a wait looks around; std has no wait with a limit.
const LOOK: Duration = Duration::from_millis(10);
/// How long a child has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(30);

/// Runs `command` to its end, with its output shown as it comes, and without input.
pub(crate) fn run(command: &mut Command, interrupt: &Interrupt) -> Result<()> {
    let name = shown(command);
    let status = spawn(apart(command))?.wait(interrupt)?;
    anyhow::ensure!(status.success(), "`{name}` ended with {status}");
    Ok(())
}

/// Runs `command` to its end and returns what it wrote, however it ended. For what takes a moment:
/// nothing stops it but its own end.
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
    command.stderr(file.try_clone().context("share the log")?);
    let mut child = spawn(apart(command.stdout(file)))?;
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

/// Sets `command` up to lead a group, so that what it starts is stopped with it: a test that cargo
/// runs. The terminal's Ctrl-C does not reach that group, and reading from a terminal would halt it.
fn apart(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).process_group(0)
}

/// Starts `command`, and names it where that fails.
pub(crate) fn spawn(command: &mut Command) -> Result<Running> {
    let (child, target) =
        children::spawn(command).with_context(|| format!("start `{}`", shown(command)))?;
    Ok(Running {
        child,
        target,
        ended: None,
    })
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

/// A child that is stopped when this value is dropped, with its group where it leads one.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    target: Target,
    /// How it ended, once it was waited for: after that its number may be another's.
    ended: Option<ExitStatus>,
}

impl Running {
    /// Returns the number of the child, as `/proc` has it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the pipe that its output comes through; once, and where it was given one.
    pub(crate) fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Returns how the child ended, if it has.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            let status = children::try_wait(&mut self.child, self.target);
            self.ended = status.context("wait for a child")?;
        }
        Ok(self.ended)
    }

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
        let status = self.try_wait()?;
        if let Err(asked) = interrupt.check() {
            // Ctrl-C reaches a child of our group too, so that it may have ended already.
            self.stop()?;
            return Err(asked);
        }
        if status.is_none() {
            thread::sleep(LOOK);
        }
        Ok(status)
    }

    /// Sends SIGTERM and waits for the end; kills the child that does not heed it, and what is left of
    /// its group once it has ended.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        self.target
            .send(Signal::TERM)
            .context("send SIGTERM to a child")?;
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            thread::sleep(LOOK);
        }
        self.target.send(Signal::KILL).context("kill a child")?;
        while self.try_wait()?.is_none() {
            thread::sleep(LOOK);
        }
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
    use std::{io::Read, sync::atomic::Ordering};

    use rustix::process::test_kill_process;

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
        let child = spawn(Command::new("sleep").arg("60")).unwrap();
        let pid = child.target.pid;
        drop(child);
        assert!(test_kill_process(pid).is_err());
    }

    #[test]
    fn what_a_child_started_is_stopped_with_its_group() {
        let mut command = Command::new("sh");
        // All hold the pipe, so that it ends with the last of them. One does not heed SIGTERM.
        let script = r#"sleep 60 & (trap "" TERM; echo started; exec sleep 60) & wait"#;
        command.args(["-c", script]);
        let mut child = spawn(apart(&mut command).stdout(Stdio::piped())).unwrap();
        let mut output = child.take_output().unwrap();
        let mut started = [0; 8];
        output.read_exact(&mut started).unwrap();
        assert_eq!(started, *b"started\n");
        let stopping = Instant::now();
        child.stop().unwrap();
        assert_eq!(output.read(&mut started).unwrap(), 0);
        assert!(stopping.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_failed_command_is_named_with_its_status() {
        let error = run(&mut Command::new("false"), &Interrupt::default()).unwrap_err();
        assert_eq!(error.to_string(), "`false` ended with exit status: 1");
    }
}
