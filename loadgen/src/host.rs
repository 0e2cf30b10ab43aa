//! What the machine under the load generator had to give, from `/proc` and the kernel's clocks. Where
//! they are missing, nothing is claimed.

use std::{collections::BTreeMap, fs, num::NonZero, path::Path, thread, time::Duration};

use serde::{Deserialize, Serialize};

/// The threads of this process.
const TASKS: &str = "/proc/self/task";

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

/// Time that this process got, and waited for, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTime {
    /// Time on a core, of all threads, also those that have ended.
    pub running: Duration,
    /// Time ready to run without a core, of the threads that live; `None` where the kernel does not
    /// tell.
    pub waiting: Option<Duration>,
}

impl CpuTime {
    /// Returns the time so far, or `None` where the kernel does not tell.
    pub fn now() -> Option<Self> {
        let threads = Threads::read(Path::new(TASKS));
        Some(Self {
            running: process_time()?,
            waiting: threads.as_ref().map(Threads::waiting),
        })
    }

    /// Returns what came since `before`. What a thread waited that has ended meanwhile is lost.
    pub fn since(self, before: Self) -> Self {
        let waiting = self.waiting.zip(before.waiting);
        Self {
            running: self.running.saturating_sub(before.running),
            waiting: waiting.map(|(now, before)| now.saturating_sub(before)),
        }
    }
}

/// A thread, and the share of a time that it was on a core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadShare {
    /// Its name.
    pub name: String,
    /// Its share, from 0 to 1.
    pub share: f64,
}

/// The threads of this process that live, and which of them looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threads {
    by_id: BTreeMap<u64, Thread>,
    caller: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Thread {
    name: String,
    running: Duration,
    waiting: Duration,
}

/// How busy the threads of this process were between two looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Busy {
    /// The one that looked, if it was the same both times.
    pub caller: Option<ThreadShare>,
    /// The busiest of all.
    pub busiest: Option<ThreadShare>,
}

impl Threads {
    /// Looks at them, or returns `None` where the kernel does not tell.
    pub fn now() -> Option<Self> {
        Self::read(Path::new(TASKS))
    }

    /// Returns how busy they were since `before`, which is `wall` ago. A thread that is called
    /// `aside` is never the busiest.
    pub fn since(&self, before: &Self, wall: Duration, aside: &str) -> Busy {
        if wall.is_zero() {
            return Busy::default();
        }
        let share = |(id, thread): (&u64, &Thread)| {
            let earlier = before.by_id.get(id);
            let earlier = earlier.map_or(Duration::ZERO, |earlier| earlier.running);
            ThreadShare {
                name: thread.name.clone(),
                share: thread.running.saturating_sub(earlier).as_secs_f64() / wall.as_secs_f64(),
            }
        };
        let caller = self.caller.filter(|_| self.caller == before.caller);
        let caller = caller.and_then(|id| self.by_id.get_key_value(&id));
        let all = self.by_id.iter();
        Busy {
            caller: caller.map(share),
            busiest: all
                .filter(|(_, thread)| thread.name != aside)
                .map(share)
                .max_by(|one, other| one.share.total_cmp(&other.share)),
        }
    }

    fn waiting(&self) -> Duration {
        self.by_id.values().map(|thread| thread.waiting).sum()
    }

    fn read(tasks: &Path) -> Option<Self> {
        let mut by_id = BTreeMap::new();
        for task in fs::read_dir(tasks).ok()? {
            let task = task.ok()?;
            let id = task.file_name().to_str()?.parse().ok()?;
            // A thread may end between the listing and the reading.
            if let Some(thread) = Thread::read(&task.path()) {
                by_id.insert(id, thread);
            }
        }
        // None at all tells of their times: this kernel keeps none.
        (!by_id.is_empty()).then(|| Self {
            by_id,
            caller: this_thread(),
        })
    }
}

impl Thread {
    fn read(task: &Path) -> Option<Self> {
        let text = fs::read_to_string(task.join("schedstat")).ok()?;
        let mut nanos = text.split_whitespace().map(str::parse);
        let (running, waiting) = (nanos.next()?.ok()?, nanos.next()?.ok()?);
        let name = fs::read_to_string(task.join("comm")).ok()?;
        Some(Self {
            name: name.trim().to_owned(),
            running: Duration::from_nanos(running),
            waiting: Duration::from_nanos(waiting),
        })
    }
}

/// Returns the number that the kernel gave this thread.
fn this_thread() -> Option<u64> {
    let link = fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

#[cfg(target_os = "linux")]
fn process_time() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};

    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()
}

#[cfg(not(target_os = "linux"))]
fn process_time() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps a core busy until this thread has had `time` of one.
    #[cfg(target_os = "linux")]
    fn work(time: Duration) {
        use rustix::time::{ClockId, clock_gettime};

        let own = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let before = own();
        while own() - before < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_has_ended_counts() {
        let spent = Duration::from_millis(50);
        let before = CpuTime::now().unwrap();
        thread::spawn(move || work(spent)).join().unwrap();
        let after = CpuTime::now().unwrap().since(before);
        assert!(after.running >= spent, "{after:?}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_knows_its_own_share_and_name() {
        let worker = thread::Builder::new().name("hard-at-work".to_owned());
        let looks = worker.spawn(|| {
            let (before, begin) = (Threads::now()?, std::time::Instant::now());
            work(Duration::from_millis(50));
            Some(Threads::now()?.since(&before, begin.elapsed(), "none"))
        });
        // Kernels that keep no such figures, as gVisor's, tell of nobody.
        let Some(busy) = looks.unwrap().join().unwrap() else {
            return;
        };
        let caller = busy.caller.unwrap();
        assert_eq!(caller.name, "hard-at-work");
        assert!(caller.share > 0.0 && caller.share < 1.5, "{caller:?}");
        assert!(busy.busiest.unwrap().share >= caller.share);
    }

    fn look(caller: u64, threads: &[(u64, &str, u64)]) -> Threads {
        let threads = threads.iter().map(|&(id, name, millis)| {
            let thread = Thread {
                name: name.to_owned(),
                running: Duration::from_millis(millis),
                waiting: Duration::from_millis(1),
            };
            (id, thread)
        });
        Threads {
            by_id: threads.collect(),
            caller: Some(caller),
        }
    }

    #[test]
    fn shares_are_of_what_came_between_two_looks() {
        let second = Duration::from_secs(1);
        let before = look(
            1,
            &[(1, "loadgen", 500), (2, "worker", 900), (4, "gone", 1)],
        );
        let all = [(1, "loadgen", 750), (2, "worker", 1100), (3, "pacer", 990)];
        let now = look(1, &all);
        assert_eq!(now.waiting(), Duration::from_millis(3));
        let busy = now.since(&before, second, "pacer");
        let quarter = ThreadShare {
            name: "loadgen".to_owned(),
            share: 0.25,
        };
        assert_eq!(busy.caller, Some(quarter.clone()));
        assert_eq!(busy.busiest, Some(quarter));
        let busy = look(2, &all).since(&before, second, "none");
        assert_eq!(busy.caller, None);
        assert_eq!(busy.busiest.unwrap().name, "pacer");
        assert_eq!(now.since(&before, Duration::ZERO, "none"), Busy::default());
    }

    #[test]
    fn where_the_kernel_does_not_tell_nothing_is_claimed() {
        assert_eq!(Threads::read(Path::new("/nonexistent")), None);
        let folder = tempfile::tempdir().unwrap();
        // A thread without figures of its time.
        fs::create_dir(folder.path().join("17")).unwrap();
        assert_eq!(Threads::read(folder.path()), None);
    }
}
