//! People's wish to stop, as signals tell it.
//!
//! Owns Ctrl-C, SIGTERM, and SIGHUP unless that is ignored. A thread waits for them, because what a
//! second one asks for is more than a signal handler may do.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use super::children;

/// Whether people asked us to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(pub(super) Arc<AtomicBool>);

impl Interrupt {
    /// Takes over the signals. A second one kills all children and ends xtask at once.
    pub(crate) fn install() -> Result<Self> {
        let mut taken = vec![SIGINT, SIGTERM];
        // Children in groups of their own do not hear that the terminal is gone; `nohup` asks that
        // nobody does.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if !ignores(&status, SIGHUP) {
            taken.push(SIGHUP);
        }
        let mut signals = Signals::new(&taken).context("take over signals")?;
        let asked = Self::default();
        let flag = Arc::clone(&asked.0);
        let watch = move || {
            for signal in signals.forever() {
                if flag.swap(true, Ordering::Relaxed) {
                    children::kill_all_and_exit(128 + signal);
                }
            }
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(watch)
            .context("watch for signals")?;
        Ok(asked)
    }

    /// Returns an error where people asked us to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }
}

/// Returns whether a process ignores `signal`, by the text of its file `status` in `/proc`.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (signal - 1)) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_found_by_its_bit() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SIGHUP) && ignores(status, 13));
        assert!(!ignores(status, SIGINT) && !ignores("", SIGHUP));
    }
}
