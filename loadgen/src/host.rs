//! What the machine under the load generator had to give, from `/proc`. Where that is missing,
//! nothing is claimed.

use std::{fs, num::NonZero, path::Path, thread, time::Duration};

/// Returns the cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Returns the name of the kernel's clock source.
pub fn clocksource() -> Option<String> {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Returns the load average over the last minute.
pub fn load_average() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Time that the threads of this process got, and waited for, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTime {
    /// Time on a core.
    pub running: Duration,
    /// Time ready to run without a core.
    pub waiting: Duration,
}

impl CpuTime {
    /// Sums over the threads that live now, or returns `None` where the kernel does not tell.
    pub fn now() -> Option<Self> {
        Self::read(Path::new("/proc/self/task"))
    }

    /// Returns what came since `before`. A thread that has ended meanwhile counts as nothing.
    pub fn since(self, before: Self) -> Self {
        Self {
            running: self.running.saturating_sub(before.running),
            waiting: self.waiting.saturating_sub(before.waiting),
        }
    }

    fn read(tasks: &Path) -> Option<Self> {
        let mut sum = Self::default();
        for task in fs::read_dir(tasks).ok()? {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else {
                continue;
            };
            let mut nanos = text.split_whitespace().map(str::parse);
            let (Some(Ok(running)), Some(Ok(waiting))) = (nanos.next(), nanos.next()) else {
                return None;
            };
            sum.running += Duration::from_nanos(running);
            sum.waiting += Duration::from_nanos(waiting);
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_threads_and_skips_those_that_have_gone() {
        let Some(before) = CpuTime::now() else { return };
        let after = CpuTime::now().map(|now| now.since(before));
        assert!(after.is_some_and(|spent| spent.running < Duration::from_secs(60)));
        assert_eq!(CpuTime::read(Path::new("/nonexistent")), None);
    }
}
