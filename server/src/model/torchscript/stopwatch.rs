//! A clock for passes that stands still while its thread waits for a core.
//!
//! Other programs would else decide which of two forms seems faster. Where the system does not tell of
//! such waits it is a plain clock. Threads within one operation are not looked at.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

/// The clock of the thread that made it.
#[derive(Debug)]
pub(super) struct Stopwatch {
    waits: Option<File>,
}

impl Stopwatch {
    pub(super) fn of_this_thread() -> Self {
        Self {
            waits: File::open("/proc/thread-self/schedstat").ok(),
        }
    }

    /// Runs `work` on the thread that made the clock, and returns what it took besides.
    pub(super) fn time<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        // The waits that are looked at lie within the time from which they are taken.
        let began = Instant::now();
        let waited = self.waited();
        let result = work();
        let waited = self.waited().saturating_sub(waited);
        (result, began.elapsed().saturating_sub(waited))
    }

    /// Returns for how long the thread could have run so far, and had no core.
    fn waited(&self) -> Duration {
        let mut line = [0; 64];
        let read = self
            .waits
            .as_ref()
            .and_then(|file| file.read_at(&mut line, 0).ok());
        read.and_then(|length| second_number(line.get(..length)?))
            .map_or(Duration::ZERO, Duration::from_nanos)
    }
}

/// Returns the second of the numbers in a line: the times on a core and waiting for one, and a count.
fn second_number(line: &[u8]) -> Option<u64> {
    let line = str::from_utf8(line).ok()?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_the_second_number_of_what_the_system_tells() {
        assert_eq!(second_number(b"1200345 77001 12\n"), Some(77_001));
        assert_eq!(second_number(b"1200345"), None);
        assert_eq!(second_number(b""), None);
    }

    #[test]
    fn what_a_thread_does_and_what_it_sleeps_is_timed() {
        let sleep = Duration::from_millis(20);
        let watch = Stopwatch::of_this_thread();
        let (answer, took) = watch.time(|| {
            std::thread::sleep(sleep);
            42
        });
        // As it wakes up it may have to wait for a core.
        assert!(answer == 42 && took > sleep / 2);
    }
}
