//! People's wish to stop, as signals tell it.
//!
//! Owns Ctrl-C, SIGQUIT, SIGTERM, and SIGHUP unless that is ignored. A thread waits for them, because
//! what another wish asks for is more than a signal handler may do.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::Signals,
};

use super::children;

/// How long signals are one and the same wish: `timeout` sends two, and so do terminals that close.
const ONE_WISH: Duration = Duration::from_secs(1);

/// Whether people asked us to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(pub(super) Arc<AtomicBool>);

impl Interrupt {
    /// Takes over the signals. One that is another wish kills all children and ends xtask at once.
    pub(crate) fn install() -> Result<Self> {
        let mut taken = vec![SIGINT, SIGQUIT, SIGTERM];
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
            let mut first = None;
            for signal in signals.forever() {
                let now = Instant::now();
                if is_another_wish(*first.get_or_insert(now), now) {
                    children::kill_all_and_exit(128 + signal);
                }
                flag.store(true, Ordering::Relaxed);
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

/// Returns whether a signal at `now` asks for more than the one at `first` did.
fn is_another_wish(first: Instant, now: Instant) -> bool {
    now.duration_since(first) >= ONE_WISH
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
    fn a_signal_that_repeats_at_once_is_no_other_wish() {
        let first = Instant::now();
        let is_another = |after| is_another_wish(first, first + after);
        assert!(!is_another(Duration::ZERO) && !is_another(Duration::from_millis(999)));
        assert!(is_another(ONE_WISH) && is_another(Duration::from_secs(60)));
    }

    #[test]
    fn an_ignored_signal_is_found_by_its_bit() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SIGHUP) && ignores(status, 13));
        assert!(!ignores(status, SIGINT) && !ignores("", SIGHUP));
    }
}
