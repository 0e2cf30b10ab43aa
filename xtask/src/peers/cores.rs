//! Where client and server run: on a core each.
//!
//! Invariant: a child is on its core from its first instruction, because it inherits that from the
//! thread that starts it.

use std::{
    process::{Child, Command},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::process;

/// The cores of one benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) client: usize,
    pub(crate) server: usize,
}

impl Cores {
    /// Takes the first two cores that this process may use.
    pub(crate) fn find() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("ask which cores may be used")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let (client, server) = (cores.next(), cores.next());
        ensure!(
            server.is_some(),
            "client and server need a core each, and this process may use one only"
        );
        Ok(Self {
            client: client.unwrap_or_default(),
            server: server.unwrap_or_default(),
        })
    }
}

/// Starts `command` on `core`.
pub(crate) fn spawn_on(core: usize, command: &mut Command) -> Result<Child> {
    let start = || -> Result<Child> {
        let mut set = CpuSet::new();
        set.set(core);
        // Of this thread alone, which ends with the start.
        sched_setaffinity(None, &set).with_context(|| format!("move to core {core}"))?;
        process::spawn(command)
    };
    thread::scope(|scope| scope.spawn(start).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_child_runs_on_the_core_it_was_given_and_we_do_not() {
        let before = sched_getaffinity(None).unwrap();
        let Ok(cores) = Cores::find() else { return };
        let mut command = Command::new("cat");
        command.arg("/proc/self/status").stdout(Stdio::piped());
        let child = spawn_on(cores.server, &mut command).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let allowed = text
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(allowed.unwrap().trim(), cores.server.to_string());
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
