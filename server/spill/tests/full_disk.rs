//! A store on file systems that are really full: each test makes a small one in a mount namespace of
//! its own, and runs itself there.
//!
//! Invariant: nothing is mounted that outlives the test, and where mounting is forbidden the test
//! says so and passes.
#![cfg(target_os = "linux")]

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use forebay_spill::{
    Choice, Config, Error, Parked, Store,
    error::{Limit, OpenError},
    memory::Pool,
};

const MIB: u64 = 1 << 20;

/// Twice what the file systems hold, in tensors of 1 MiB.
const TENSORS: u8 = 16;

/// Makes a test of each disk, on each engine.
macro_rules! on_each_engine {
    ($($test:ident: $disk:expr),* $(,)?) => {
        mod uring {
            $(#[test] fn $test() {
                super::on(&$disk, concat!("uring::", stringify!($test)), super::Choice::IoUring);
            })*
        }
        mod psync {
            $(#[test] fn $test() {
                super::on(&$disk, concat!("psync::", stringify!($test)), super::Choice::Psync);
            })*
        }
    };
}

on_each_engine!(
    a_full_file_system_loses_nothing_and_says_so: super::FULL,
    a_disk_that_promises_more_than_it_has_gives_no_wrong_bytes_back: super::BOASTFUL,
);

/// A small file system.
struct Disk {
    /// What a shell does to make it in the directory `$2` and to go there.
    setup: &'static str,
    /// Whether users other than root can.
    by_anybody: bool,
    /// How many tensors it may damage.
    damages: u64,
}

/// Has no room for a segment.
const FULL: Disk = Disk {
    setup: r#"mount -t tmpfs -o size=8m,mode=700 none "$2" && cd "$2""#,
    by_anybody: true,
    damages: 0,
};

/// Has room for segments, as it says, but not for what is written to them. The write in which the
/// room ends may be told to have succeeded (Linux 6.18 tells so, to dd too): only its checksum finds
/// it out.
const BOASTFUL: Disk = Disk {
    setup: r#"mount -t tmpfs -o size=8m none "$2" && cd "$2" && truncate -s 64M image &&
        mkfs.ext4 -q -O ^has_journal image && mkdir disk && mount -o loop image disk &&
        chmod 700 disk && cd disk"#,
    by_anybody: false,
    damages: 1,
};

/// Fills a store if the file system at hand is small, and runs the test on `disk` if not.
fn on(disk: &Disk, name: &str, choice: Choice) {
    let here = rustix::fs::statvfs(".").expect("the test is somewhere");
    if here.f_blocks * here.f_frsize <= 64 * MIB {
        return fill(disk, choice);
    }
    let dir = tempfile::tempdir().expect("a directory can be made");
    let program = std::env::current_exe().expect("the test knows its program");
    let mut unshare = Command::new("unshare");
    unshare.arg("--mount");
    if disk.by_anybody {
        unshare.arg("--map-root-user");
    }
    let setup = disk.setup;
    let script = format!(r#"{{ {setup}; }} || exit 77; exec "$0" --exact "$1" --nocapture"#);
    unshare.args(["sh", "-c", &script]).arg(program).arg(name);
    let Ok(output) = unshare.arg(dir.path()).output() else {
        return eprintln!("not tried: there is no unshare here");
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => assert!(text.contains("1 passed"), "it did not run: {text}{errors}"),
        // Of unshare, and of the script.
        Some(1 | 77) => eprintln!("not tried, for nothing can be mounted here: {errors}"),
        _ => panic!("{text}{errors}"),
    }
}

/// Offloads more than there is room for, and takes it back.
fn fill(disk: &Disk, choice: Choice) {
    let config = Config {
        segment_bytes: 2 * MIB,
        min_free_bytes: 0,
        allow_tmpfs: true,
        engine: choice,
        ..Config::new([".".into()])
    };
    let store = match Store::open(config, Pool::new(16 << 20)) {
        Ok(store) => store,
        Err(OpenError::Dir { source, .. }) if choice == Choice::IoUring => {
            return eprintln!("not tried with io_uring: {source}");
        }
        Err(error) => panic!("{error}"),
    };
    let mut accepted: Vec<(u8, Parked)> = Vec::new();
    let mut refused = 0;
    for value in 0..TENSORS {
        match store.blocking().offload_and_wait(tensor(value)) {
            Ok(parked) => accepted.push((value, parked)),
            Err(back) => {
                assert!(is_full(&back.error), "{}", back.error);
                assert_eq!(back.data.as_ref(), tensor(value), "it comes back");
                refused += 1;
            }
        }
    }
    let kept = store.stats().kept_bytes / MIB;
    let written = store.stats().written.bytes / MIB;
    eprintln!("{choice:?}: {written} written, {kept} kept in memory, {refused} refused");
    assert!(written > 0 && kept > 0, "{written} {kept} {refused}");
    assert_eq!(written + kept + refused, TENSORS.into());
    assert!(store.stats().dirs[0].out_of_use.is_none());
    let mut damaged = 0;
    for (value, parked) in accepted {
        match store.blocking().onboard(parked) {
            Ok(back) => assert!(back[..] == tensor(value), "tensor {value}"),
            Err(lost) if matches!(lost.error, Error::Corrupt { .. }) => damaged += 1,
            Err(lost) => panic!("tensor {value}: {}", lost.error),
        }
    }
    assert!(damaged <= disk.damages, "{damaged} are damaged");
    assert_eq!((store.stats().used_bytes, store.stats().kept_bytes), (0, 0));
    // A disk that was full is left alone for a while, and then asked again.
    let until = Instant::now() + Duration::from_secs(30);
    let again = loop {
        match store.blocking().offload_and_wait(tensor(99)) {
            Ok(again) => break again,
            Err(refused) => assert!(
                is_full(&refused.error) && Instant::now() < until,
                "there is no room again: {}",
                refused.error
            ),
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(store.stats().kept_bytes, 0, "it is written");
    assert!(store.blocking().onboard(again).expect("it is there")[..] == tensor(99));
}

fn is_full(error: &Error) -> bool {
    let what = Limit::Device;
    matches!(error, Error::Full { what: limit, .. } if *limit == what)
}

/// A MiB that no other value has.
fn tensor(value: u8) -> Bytes {
    let bytes = (0..MIB).map(|i| value ^ (i >> 8).to_le_bytes()[0] ^ i.to_le_bytes()[0]);
    bytes.collect()
}
