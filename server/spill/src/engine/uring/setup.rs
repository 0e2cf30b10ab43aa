//! Makes the ring, with as much of what helps one driving thread as the kernel has.
//!
//! Invariant: a ring starts disabled. The thread that enables it is then the only one that may
//! submit, so an engine can be built on one thread and driven on another.

use std::io;

use io_uring::{Builder, IoUring};
use rustix::{io::Errno, process};

/// The most files of one engine, unless the process may open fewer anyway.
const MAX_FILES: u64 = 1024;

/// Where completions are worked off.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Only where the driving thread waits, since Linux 6.1.
    Deferred,
    /// In any system call of that thread, since Linux 5.19.
    Cooperative,
    /// Wherever the kernel interrupts.
    Anywhere,
}

impl Work {
    fn builder(self) -> Builder {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_r_disabled();
        match self {
            Self::Deferred => builder
                .setup_submit_all()
                .setup_single_issuer()
                .setup_defer_taskrun(),
            Self::Cooperative => builder.setup_submit_all().setup_coop_taskrun(),
            Self::Anywhere => &mut builder,
        }
        .clone()
    }
}

/// Makes a ring of at least `entries`, disabled, with a table of files.
pub(super) fn ring(entries: u32) -> io::Result<IoUring> {
    let ring = build(entries)?;
    let features = ring.params();
    // Without the first a wait has no timeout, without the second completions could be dropped.
    if !features.is_feature_ext_arg() || !features.is_feature_nodrop() {
        return Err(Errno::NOSYS.into());
    }
    let limit = process::getrlimit(process::Resource::Nofile).current;
    let files = limit.unwrap_or(MAX_FILES).min(MAX_FILES);
    let empty = vec![-1; usize::try_from(files).unwrap_or_default()];
    ring.submitter().register_files(&empty)?;
    Ok(ring)
}

/// An old kernel calls a flag that it does not know an invalid argument.
fn build(entries: u32) -> io::Result<IoUring> {
    for work in [Work::Deferred, Work::Cooperative, Work::Anywhere] {
        match work.builder().build(entries) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {}
            result => return result,
        }
    }
    Err(Errno::NOSYS.into())
}
