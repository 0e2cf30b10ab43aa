//! Where client and server run: on a core each, or both on the same two.
//!
//! Invariant: a child is on its cores from its first instruction, because it inherits that from the
//! thread that starts it.

use std::{
    fs,
    process::{Child, Command},
    thread,
};

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::process;

/// The cores of one benchmark, for the client and for the server under measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) client: Vec<usize>,
    pub(crate) server: Vec<usize>,
}

impl Cores {
    /// Takes the first two cores that this process may use: one for each side, or both for both
    /// where they are `shared`.
    pub(crate) fn find(shared: bool) -> Result<Self> {
        let allowed = sched_getaffinity(None).context("ask which cores may be used")?;
        let cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let cores: Vec<usize> = cores.take(2).collect();
        let [client, server] = cores[..] else {
            bail!("two cores are needed, and this process may use one only");
        };
        Ok(match shared {
            true => Self {
                client: cores.clone(),
                server: cores,
            },
            false => Self {
                client: vec![client],
                server: vec![server],
            },
        })
    }
}

/// Returns the load of the system over the last 1, 5 and 15 minutes.
pub(crate) fn load_average() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let parts: Vec<&str> = text.split_whitespace().take(3).collect();
    Some(parts.join(" "))
}

/// Returns what the kernel does with a core that has nothing to run, as in `haltpoll, 200000 ns`.
///
/// In a virtual machine a core that halts leaves the guest, and so does whoever wakes it. A guest may
/// look for work for a while before it halts, which the `haltpoll` governor does for up to
/// `guest_halt_poll_ns`; the governor alone does not say how long.
pub(crate) fn idling() -> Option<String> {
    let read = |path: &str| Some(fs::read_to_string(path).ok()?.trim().to_owned());
    let governor = read("/sys/devices/system/cpu/cpuidle/current_governor")?;
    let polls = read("/sys/module/haltpoll/parameters/guest_halt_poll_ns");
    Some(match polls.filter(|_| governor == "haltpoll") {
        Some(ns) => format!("{governor}, {ns} ns"),
        None => governor,
    })
}

/// Starts `command` on `cores`.
pub(crate) fn spawn_on(cores: &[usize], command: &mut Command) -> Result<Child> {
    let start = || -> Result<Child> {
        let mut set = CpuSet::new();
        for &core in cores {
            set.set(core);
        }
        // Of this thread alone, which ends with the start.
        sched_setaffinity(None, &set).with_context(|| format!("move to cores {cores:?}"))?;
        process::spawn(command)
    };
    thread::scope(|scope| scope.spawn(start).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    /// Returns the cores that a child may use that is started on `cores`, as the kernel lists them.
    fn given(cores: &[usize]) -> String {
        let mut command = Command::new("cat");
        command.arg("/proc/self/status").stdout(Stdio::piped());
        let child = spawn_on(cores, &mut command).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let allowed = text
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        allowed.unwrap().trim().to_owned()
    }

    #[test]
    fn a_child_runs_on_the_cores_it_was_given_and_we_do_not() {
        let before = sched_getaffinity(None).unwrap();
        let Ok(cores) = Cores::find(false) else {
            return;
        };
        assert_eq!(given(&cores.server), cores.server[0].to_string());
        assert_ne!(cores.server, cores.client);
        let shared = Cores::find(true).unwrap();
        assert_eq!(shared.server, [cores.client, cores.server].concat());
        assert_eq!(given(&shared.client), given(&shared.server));
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
