//! A clock for passes that stands still while its thread waits for a core, and leaves out what memory
//! costs that the thread has not touched before.
//!
//! Other programs would else decide which of two forms seems faster, and so would the allocator: the
//! first passes of a process get pages that the kernel has yet to map and to clear, a thousand of them
//! for a model of 10 ms, and a server at work next to none. Where the system does not tell of such
//! waits and faults it is a plain clock. Threads within one operation are not looked at.

use std::{
    fs::File,
    hint::black_box,
    os::unix::fs::FileExt as _,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Bytes of new memory by which the cost of a page fault is found, a few times.
const SAMPLE: usize = 256 << 10;
const SAMPLES: usize = 3;
/// The smallest page of the systems that we run on.
const STRIDE: usize = 4096;

/// The clock of the thread that made it.
#[derive(Debug)]
pub(super) struct Stopwatch {
    waits: Option<File>,
    faults: Option<File>,
    of_a_fault: Duration,
}

impl Stopwatch {
    pub(super) fn of_this_thread() -> Self {
        static OF_A_FAULT: OnceLock<Duration> = OnceLock::new();
        let mut watch = Self {
            waits: File::open("/proc/thread-self/schedstat").ok(),
            faults: File::open("/proc/thread-self/stat").ok(),
            of_a_fault: Duration::ZERO,
        };
        watch.of_a_fault = *OF_A_FAULT.get_or_init(|| watch.measure_a_fault());
        watch
    }

    /// Runs `work` on the thread that made the clock, and returns what it took besides.
    pub(super) fn time<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        let faults = self.faults();
        // The waits that are looked at lie within the time from which they are taken.
        let began = Instant::now();
        let waited = self.waited();
        let result = work();
        let waited = self.waited().saturating_sub(waited);
        let took = began.elapsed().saturating_sub(waited);
        let faults = self.faults().saturating_sub(faults);
        (result, without_faults(took, self.of_a_fault, faults))
    }

    /// Returns for how long the thread could have run so far, and had no core.
    fn waited(&self) -> Duration {
        number(self.waits.as_ref(), second_number).map_or(Duration::ZERO, Duration::from_nanos)
    }

    /// Returns how many pages the kernel has mapped for the thread so far.
    fn faults(&self) -> u64 {
        number(self.faults.as_ref(), minor_faults).unwrap_or(0)
    }

    /// Returns what it takes to touch a new page: the least of some tries. One that gets memory that was
    /// used before tells nothing.
    fn measure_a_fault(&self) -> Duration {
        // All are held until the last is measured, so that none gets another's.
        let mut held = Vec::with_capacity(SAMPLES);
        let mut tries = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let before = self.faults();
            let touch = || {
                let mut memory = vec![0_u8; SAMPLE];
                memory.iter_mut().step_by(STRIDE).for_each(|byte| *byte = 1);
                black_box(memory)
            };
            let (memory, took) = self.time(touch);
            held.push(memory);
            let faults = u32::try_from(self.faults().saturating_sub(before)).unwrap_or(u32::MAX);
            tries.extend(took.checked_div(faults));
        }
        tries.into_iter().min().unwrap_or_default()
    }
}

/// Takes the faults from a time, but never more than half of it: what one costs is an estimate.
fn without_faults(took: Duration, of_a_fault: Duration, faults: u64) -> Duration {
    let faults = of_a_fault.saturating_mul(u32::try_from(faults).unwrap_or(u32::MAX));
    took.saturating_sub(faults).max(took / 2)
}

/// Reads a number that the system tells of the thread.
fn number(file: Option<&File>, find: impl FnOnce(&str) -> Option<u64>) -> Option<u64> {
    let mut text = [0; 512];
    let length = file?.read_at(&mut text, 0).ok()?;
    find(str::from_utf8(text.get(..length)?).ok()?)
}

/// Returns the second of the numbers in a line: the times on a core and waiting for one, and a count.
fn second_number(line: &str) -> Option<u64> {
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the tenth field of a thread's `stat`. The second is a name in brackets, which may hold any.
fn minor_faults(line: &str) -> Option<u64> {
    let (_, fields) = line.rsplit_once(')')?;
    fields.split_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_the_second_number_of_what_the_system_tells() {
        assert_eq!(second_number("1200345 77001 12\n"), Some(77_001));
        assert_eq!(second_number("1200345"), None);
        assert_eq!(second_number(""), None);
    }

    #[test]
    fn faults_are_the_tenth_field_whatever_the_name_of_the_thread() {
        let line = "17 (a) thread (b) S 1 17 17 0 -1 4194368 2041 0 3 0 5 6\n";
        assert_eq!(minor_faults(line), Some(2_041));
        assert_eq!(minor_faults("17 (short) S 1"), None);
        assert_eq!(minor_faults(""), None);
    }

    #[test]
    fn pages_that_are_new_are_counted_and_cost_something() {
        // More than any allocator keeps for later.
        let (pages, watch) = (16_384, Stopwatch::of_this_thread());
        let before = watch.faults();
        let mut memory = vec![0_u8; pages * STRIDE];
        memory.iter_mut().step_by(STRIDE).for_each(|byte| *byte = 1);
        black_box(&memory);
        let faults = watch.faults() - before;
        // A system with larger pages has fewer of them.
        assert!(faults > 0 && faults < 2 * pages as u64, "{faults}");
        assert!(watch.of_a_fault > Duration::ZERO);
    }

    #[test]
    fn faults_take_at_most_half_of_a_time() {
        let (ms, us) = (Duration::from_millis, Duration::from_micros);
        assert_eq!(without_faults(ms(10), us(2), 1_000), ms(8));
        assert_eq!(without_faults(ms(10), us(2), 0), ms(10));
        assert_eq!(without_faults(ms(10), us(2), 9_000), ms(5));
        assert_eq!(without_faults(ms(10), us(2), u64::MAX), ms(5));
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
