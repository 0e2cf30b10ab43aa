//! How the kernel schedules the threads that compute.
//!
//! Where all cores are busy, a thread that is woken usually takes the core from whoever woke it. An async
//! worker that reads one request after the other would thus be put aside at each of them, and each batch
//! would hold one. Threads under `SCHED_BATCH` wait for their turn instead: until the worker sleeps, or
//! its slice of a few milliseconds is over. On a core that is free they run at once, as others do.
//! Intra-op threads have the policy too, since threads inherit it.

/// Puts the calling thread under `SCHED_BATCH`. Where that is forbidden it stays as it is: nothing but
/// speed depends on it.
#[expect(unsafe_code, reason = "the standard library has no call for it")]
pub(super) fn wait_for_a_turn() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and `parameters` lives until the call is over.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "compute threads are scheduled as all others");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// Returns the policy of the calling thread: the 41st field of its `stat`.
    fn policy() -> i32 {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The second field is a name in parentheses, which may hold blanks.
        let (_, rest) = stat.rsplit_once(')').unwrap();
        rest.split_whitespace().nth(38).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_and_those_it_starts_wait_for_their_turn_and_no_others() {
        let of_both = thread::spawn(|| {
            wait_for_a_turn();
            (policy(), thread::spawn(policy).join().unwrap())
        });
        let of_both = of_both.join().unwrap();
        assert_eq!(of_both, (libc::SCHED_BATCH, libc::SCHED_BATCH));
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}
