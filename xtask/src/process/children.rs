//! The list of the children that run, by which all of them can be killed at once.
//!
//! Invariant: a child is on the list from its start until it is waited for, and the list is locked
//! during both. So its number is its own for as long as it can be found here. What is left of a group
//! is killed before its leader is waited for, while the group's number is its own too.

use std::{
    io,
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, kill_process, kill_process_group, waitid,
};

/// Of the whole process, because what ends that at once must find them all.
static RUNNING: Mutex<Vec<Target>> = Mutex::new(Vec::new());

/// Whom a signal to a child goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) pid: Pid,
    /// Whether it leads a group, which then is signalled as a whole.
    leads: bool,
}

impl Target {
    /// Sends `signal`. Only for a child that was not waited for yet.
    pub(super) fn send(self, signal: Signal) -> io::Result<()> {
        let sent = if self.leads {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
        sent.map_err(io::Error::from)
    }
}

/// Starts `command`.
pub(super) fn spawn(command: &mut Command) -> io::Result<(Child, Target)> {
    let mut running = running();
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    // It has the group that it was given: the start waits until its program runs.
    let leads = getpgid(Some(pid)).is_ok_and(|group| group == pid);
    let target = Target { pid, leads };
    running.push(target);
    Ok((child, target))
}

/// Returns how `child` ended, if it has; what it left of a group that it led is killed. Only until it
/// has ended: its number may be another's then.
pub(super) fn try_wait(child: &mut Child, target: Target) -> io::Result<Option<ExitStatus>> {
    let mut running = running();
    if target.leads {
        // Without taking its status, so that its number remains the group's.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::Pid(target.pid), look)?.is_none() {
            return Ok(None);
        }
        kill(&[target]);
    }
    let status = child.try_wait()?;
    if status.is_some() {
        running.retain(|other| *other != target);
    }
    Ok(status)
}

/// Kills every child that runs, and ends this process; nothing is dropped.
pub(super) fn kill_all_and_exit(code: i32) -> ! {
    // Locked to the end, so that no other child is started.
    let running = running();
    kill(&running);
    std::process::exit(code)
}

fn kill(targets: &[Target]) {
    for target in targets {
        // There is nobody to tell, and nothing else to try.
        let _ = target.send(Signal::KILL);
    }
}

fn running() -> MutexGuard<'static, Vec<Target>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};

    use super::*;

    #[test]
    fn a_child_is_listed_until_it_is_waited_for() {
        let (mut child, target) = spawn(Command::new("sleep").arg("60")).unwrap();
        assert_eq!(try_wait(&mut child, target).unwrap(), None);
        assert!(running().contains(&target));
        target.send(Signal::TERM).unwrap();
        while try_wait(&mut child, target).unwrap().is_none() {
            std::thread::yield_now();
        }
        assert!(!running().contains(&target));
    }

    #[test]
    fn children_are_killed_in_whatever_group_they_are() {
        let mut ours = spawn(Command::new("sleep").arg("60")).unwrap();
        let mut apart = spawn(Command::new("sleep").arg("60").process_group(0)).unwrap();
        assert_eq!((ours.1.leads, apart.1.leads), (false, true));
        kill(&[ours.1, apart.1]);
        for (child, target) in [&mut ours, &mut apart] {
            let status = loop {
                if let Some(status) = try_wait(child, *target).unwrap() {
                    break status;
                }
                std::thread::yield_now();
            };
            assert_eq!(status.signal(), Some(9));
        }
    }
}
