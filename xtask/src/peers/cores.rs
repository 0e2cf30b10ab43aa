//! Where client and server run: on a core each, or both on the same two.
//!
//! Invariant: a child is on its cores from its first instruction, because it inherits that from the
//! thread that starts it.

use std::{fs, process::Command, thread};

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::process::{self, Running};

/// The cores of one benchmark, for the client and for the server under measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) client: Vec<usize>,
    pub(crate) server: Vec<usize>,
    /// Whether the two cores are threads of one, which slows each of them down as the other works.
    pub(crate) siblings: bool,
}

impl Cores {
    /// Takes two cores that this process may use, see [`two_of`]: one for each side, or both for both
    /// where they are `shared`.
    pub(crate) fn find(shared: bool) -> Result<Self> {
        let allowed = sched_getaffinity(None).context("ask which cores may be used")?;
        let cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let cores: Vec<usize> = cores.collect();
        let Some((client, server, siblings)) = two_of(&cores, threads_beside) else {
            bail!("two cores are needed, and this process may use one only");
        };
        let (client, server) = match shared {
            true => (vec![client, server], vec![client, server]),
            false => (vec![client], vec![server]),
        };
        Ok(Self {
            client,
            server,
            siblings,
        })
    }
}

/// Returns the first of `cores` and the next that is no thread of the same one, or else the next; and
/// whether they are threads of one. `threads` lists the threads of one for a core, as far as it knows.
fn two_of(
    cores: &[usize],
    threads: impl Fn(usize) -> Option<String>,
) -> Option<(usize, usize, bool)> {
    let (&first, others) = cores.split_first()?;
    let beside = threads(first);
    let apart = |core: &&usize| beside.is_none() || threads(**core) != beside;
    match others.iter().find(apart) {
        Some(&second) => Some((first, second, false)),
        None => others.first().map(|&second| (first, second, true)),
    }
}

/// Returns the threads of the core that `core` is one of, as the kernel lists them for each of them.
fn threads_beside(core: usize) -> Option<String> {
    let file = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    fs::read_to_string(file).ok()
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
pub(crate) fn spawn_on(cores: &[usize], command: &mut Command) -> Result<Running> {
    let start = || -> Result<Running> {
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
    use std::{io::Read as _, process::Stdio};

    use super::*;

    /// Returns the cores that a child may use that is started on `cores`, as the kernel lists them.
    fn given(cores: &[usize]) -> String {
        let mut command = Command::new("cat");
        command.arg("/proc/self/status").stdout(Stdio::piped());
        let mut child = spawn_on(cores, &mut command).unwrap();
        let mut text = String::new();
        let mut output = child.take_output().unwrap();
        output.read_to_string(&mut text).unwrap();
        let allowed = text
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        allowed.unwrap().trim().to_owned()
    }

    #[test]
    fn two_threads_of_one_core_are_taken_only_where_there_are_no_others() {
        // As in `0,2`: every second is a thread of the same core.
        let threads = |core: usize| Some(format!("{},{}", core % 2, core % 2 + 2));
        assert_eq!(two_of(&[0, 1, 2, 3], threads), Some((0, 1, false)));
        assert_eq!(two_of(&[0, 2, 3], threads), Some((0, 3, false)));
        assert_eq!(two_of(&[1, 3], threads), Some((1, 3, true)));
        assert_eq!(two_of(&[1], threads), None);
        // Nothing is known of them.
        assert_eq!(two_of(&[0, 2], |_| None), Some((0, 2, false)));
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
