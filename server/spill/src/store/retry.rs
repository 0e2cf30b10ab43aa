//! What becomes of a transfer that has ended.
//!
//! Invariant: a transfer is complete only when all of its bytes went; one that gets nowhere ends.

use std::{io, time::Duration};

use crate::{engine::Broken, memory::ALIGNMENT};

/// How often an interrupted transfer, or one that gets nowhere, starts again.
const AGAIN_MAX: u32 = 64;
/// How often one starts again that found no memory.
const LATER_MAX: u32 = 10;
/// How long a disk that failed gets to come to itself, before it is tried once more.
const FAILED_PAUSE: Duration = Duration::from_millis(50);

/// What a transfer has been through.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tries {
    again: u32,
    later: u32,
    io: u32,
}

/// What becomes of it.
#[derive(Debug)]
pub(super) enum Verdict {
    Complete,
    /// It goes on at once, with so many bytes done.
    Again {
        skip: usize,
        short: bool,
    },
    /// It starts again after a while.
    Later(Duration),
    Failed(io::Error),
}

/// Judges the `result` of a transfer of `len` bytes of which `skip` were done before.
pub(super) fn judge(
    tries: &mut Tries,
    (len, skip): (usize, usize),
    result: io::Result<usize>,
) -> Verdict {
    use io::ErrorKind::{Interrupted, OutOfMemory, UnexpectedEof, WouldBlock};
    let error = match result {
        Ok(moved) if moved >= len - skip => return Verdict::Complete,
        Ok(moved) => {
            // What is behind a partial block has to be transferred with all of the block.
            let done = (skip + moved) / ALIGNMENT * ALIGNMENT;
            if done > skip {
                return Verdict::Again {
                    skip: done,
                    short: true,
                };
            }
            let text = format!("{moved} of {} bytes were transferred", len - skip);
            return again(tries, skip, true, io::Error::new(UnexpectedEof, text));
        }
        Err(error) => error,
    };
    match error.kind() {
        _ if Broken::is(&error) => Verdict::Failed(error),
        Interrupted | WouldBlock => again(tries, skip, false, error),
        OutOfMemory if tries.later < LATER_MAX => {
            tries.later += 1;
            Verdict::Later(Duration::from_millis(1 << tries.later.min(7)))
        }
        io::ErrorKind::StorageFull => Verdict::Failed(error),
        _ if tries.io == 0 => {
            tries.io += 1;
            Verdict::Later(FAILED_PAUSE)
        }
        _ => Verdict::Failed(error),
    }
}

fn again(tries: &mut Tries, skip: usize, short: bool, error: io::Error) -> Verdict {
    tries.again += 1;
    if tries.again > AGAIN_MAX {
        return Verdict::Failed(error);
    }
    Verdict::Again { skip, short }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIO: i32 = 5;
    const EINTR: i32 = 4;
    const ENOMEM: i32 = 12;
    const ENOSPC: i32 = 28;

    fn errno(errno: i32) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_short_transfer_goes_on_from_the_last_whole_block() {
        let mut tries = Tries::default();
        let verdict = judge(&mut tries, (16_384, 4096), Ok(5000));
        assert!(matches!(
            verdict,
            Verdict::Again {
                skip: 8192,
                short: true
            }
        ));
        let verdict = judge(&mut tries, (16_384, 8192), Ok(8192));
        assert!(matches!(verdict, Verdict::Complete));
    }

    #[test]
    fn results_of_reads_are_checked_1000_bytes() {
        let mut tries = Tries::default();
        let mut rounds = 0;
        while let Verdict::Again { skip, short } = judge(&mut tries, (4096, 0), Ok(1000)) {
            assert_eq!((skip, short), (0, true));
            rounds += 1;
        }
        assert_eq!(
            rounds, AGAIN_MAX,
            "then it fails, and never passes for whole"
        );
    }

    #[test]
    fn an_interrupted_transfer_starts_again_but_not_for_ever() {
        let mut tries = Tries::default();
        for _ in 0..AGAIN_MAX {
            let verdict = judge(&mut tries, (4096, 0), errno(EINTR));
            assert!(matches!(
                verdict,
                Verdict::Again {
                    skip: 0,
                    short: false
                }
            ));
        }
        assert!(matches!(
            judge(&mut tries, (4096, 0), errno(EINTR)),
            Verdict::Failed(_)
        ));
    }

    #[test]
    fn a_failed_transfer_is_tried_once_more_and_a_full_disk_is_not() {
        let mut tries = Tries::default();
        let verdict = judge(&mut tries, (4096, 0), errno(EIO));
        assert!(matches!(verdict, Verdict::Later(FAILED_PAUSE)));
        assert!(matches!(
            judge(&mut tries, (4096, 0), errno(EIO)),
            Verdict::Failed(_)
        ));
        let verdict = judge(&mut Tries::default(), (4096, 0), errno(ENOSPC));
        assert!(matches!(verdict, Verdict::Failed(_)));
    }

    #[test]
    fn without_memory_it_waits_longer_each_time() {
        let mut tries = Tries::default();
        let mut last = Duration::ZERO;
        for _ in 0..7 {
            let Verdict::Later(pause) = judge(&mut tries, (4096, 0), errno(ENOMEM)) else {
                panic!("it is to wait");
            };
            assert!(pause > last);
            last = pause;
        }
    }
}
