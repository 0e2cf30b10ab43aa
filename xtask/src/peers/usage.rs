//! What a server and its children used: time on cores, and memory, from `/proc`.
//!
//! Resident memory counts pages that processes share once for each of them; the proportional kind
//! does not, but has no peak.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::param::clock_ticks_per_second;

/// A process and all below it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree {
    root: u32,
}

/// What `stat` tells of a process, its ended children included.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

impl Tree {
    /// Names the tree below the process `root`.
    pub(crate) fn of(root: u32) -> Self {
        Self { root }
    }

    /// Returns the time on cores so far.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let ticks: u64 = self.processes()?.values().map(|stat| stat.ticks).sum();
        Ok(Duration::from_secs_f64(
            ticks as f64 / clock_ticks_per_second() as f64,
        ))
    }

    /// Lets the peak of resident memory begin anew.
    pub(crate) fn forget_peak(self) -> Result<()> {
        for id in self.processes()?.into_keys() {
            // A child may have ended meanwhile.
            let _ = fs::write(folder(id).join("clear_refs"), "5");
        }
        Ok(())
    }

    /// Returns the peak of resident memory in bytes, summed over the processes.
    ///
    /// # Errors
    /// There is none: the root ended, or its file cannot be read.
    pub(crate) fn peak(self) -> Result<u64> {
        self.sum("status", "VmHWM:")
    }

    /// Returns the memory in bytes, with shared pages counted once.
    ///
    /// # Errors
    /// As for the peak.
    pub(crate) fn proportional(self) -> Result<u64> {
        self.sum("smaps_rollup", "Pss:")
    }

    fn sum(self, file: &str, figure: &str) -> Result<u64> {
        let mut bytes = 0;
        for id in self.processes()?.into_keys() {
            let text = fs::read_to_string(folder(id).join(file)).unwrap_or_default();
            bytes += kib(&text, figure).unwrap_or_default() << 10;
        }
        // No process is without memory, and 0 would meet every target.
        let file = folder(self.root).join(file);
        ensure!(bytes > 0, "{} tells no {figure}", file.display());
        Ok(bytes)
    }

    /// Returns the processes of the tree by their numbers.
    fn processes(self) -> Result<HashMap<u32, Stat>> {
        let mut all = HashMap::new();
        for entry in fs::read_dir("/proc").context("list the processes")? {
            let name = entry.context("list the processes")?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process may end between the listing and the reading.
            let text = fs::read_to_string(folder(id).join("stat")).unwrap_or_default();
            if let Some(stat) = stat(&text) {
                all.insert(id, stat);
            }
        }
        Ok(below(self.root, all))
    }
}

fn folder(id: u32) -> PathBuf {
    Path::new("/proc").join(id.to_string())
}

/// Returns `root` and its descendants.
fn below(root: u32, mut all: HashMap<u32, Stat>) -> HashMap<u32, Stat> {
    let mut found = HashMap::new();
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        let children = all.iter().filter(|(_, stat)| stat.parent == id);
        open.extend(children.map(|(child, _)| *child));
        found.extend(all.remove_entry(&id));
    }
    found
}

/// Reads a `stat` file, whose second field may hold anything in its parentheses.
fn stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields 14 to 17 of the file: utime, stime, cutime, cstime.
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks.sum::<Result<u64, _>>().ok()?,
    })
}

/// Reads a figure in KiB.
fn kib(text: &str, figure: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(figure))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) (b c) S 3 7 7 0 -1 4194560 1 2 3 4 100 20 5 1 20 0 9";
        let expected = Stat {
            parent: 3,
            ticks: 126,
        };
        assert_eq!(stat(text), Some(expected));
        assert_eq!(stat("7 (a"), None);
    }

    #[test]
    fn a_tree_holds_all_descendants_and_nobody_else() {
        let process = |parent| Stat { parent, ticks: 1 };
        let all = [(1, 0), (5, 1), (6, 5), (7, 6), (8, 1)];
        let all = all.map(|(id, parent)| (id, process(parent)));
        let mut ids: Vec<_> = below(5, HashMap::from(all)).into_keys().collect();
        ids.sort_unstable();
        assert_eq!(ids, [5, 6, 7]);
    }

    #[test]
    fn the_memory_of_a_process_that_is_gone_is_an_error() {
        let gone = Tree::of(u32::MAX);
        let error = gone.peak().unwrap_err().to_string();
        assert_eq!(error, "/proc/4294967295/status tells no VmHWM:");
        let error = gone.proportional().unwrap_err().to_string();
        assert_eq!(error, "/proc/4294967295/smaps_rollup tells no Pss:");
    }

    #[test]
    fn this_process_has_memory() {
        let this = Tree::of(std::process::id());
        this.forget_peak().unwrap();
        assert!(this.peak().unwrap() > 1 << 20);
        assert!(this.proportional().unwrap() > 1 << 20);
        assert!(this.cpu().unwrap() < Duration::from_secs(3600));
    }
}
