//! Short transfers and operations that cannot be.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    process::{self, Command},
};

use rustix::{
    fs::OFlags,
    process::{Resource, getrlimit},
};

use super::*;

on_every_engine!(
    a_read_across_the_end_is_short,
    a_write_at_the_limit_of_file_sizes_is_short,
    what_cannot_be_is_an_error_and_the_engine_goes_on,
    more_than_the_depth_is_an_error,
    an_error_of_the_disk_is_its_number,
);

fn a_read_across_the_end_is_short(kind: Kind) {
    let mut rig = kind.rig(ALIGNMENT as u64);
    let across = rig.transfer(Direction::Read, 0, rig.piece(2 * ALIGNMENT, 1));
    assert_eq!(across.result.ok(), Some(ALIGNMENT));
    let behind = rig.transfer(Direction::Read, 8192, rig.piece(ALIGNMENT, 1));
    assert_eq!(behind.result.ok(), Some(0));
}

/// The limit holds for a whole process, and a process that reaches it is killed unless it ignores
/// the signal: the test runs itself once more, behind a shell that sees to both.
fn a_write_at_the_limit_of_file_sizes_is_short(kind: Kind) {
    match getrlimit(Resource::Fsize).current {
        None => run_again_with_a_limit(kind),
        Some(limit) => write_across(kind, limit),
    }
}

fn run_again_with_a_limit(kind: Kind) {
    let name = format!(
        "engine::tests::limits::{}::a_write_at_the_limit_of_file_sizes_is_short",
        format!("{kind:?}").to_lowercase()
    );
    let program = std::env::current_exe().expect("the test knows its program");
    let output = Command::new("sh")
        .args([
            "-c",
            r#"trap "" XFSZ; ulimit -f 256; exec "$0" --exact "$1""#,
        ])
        .arg(program)
        .arg(name)
        .output()
        .expect("there is a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "it did not run: {text}");
}

fn write_across(kind: Kind, limit: u64) {
    let path = std::env::temp_dir().join(format!("forebay-limit-{}-{kind:?}", process::id()));
    let flags = match kind {
        Kind::Buffered => OFlags::empty(),
        Kind::Uring | Kind::Psync => OFlags::DIRECT,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .custom_flags(flags.bits().cast_signed())
        .open(&path)
        .expect("a file can be made");
    std::fs::remove_file(&path).expect("what was made can go");
    let mut rig = kind.rig(4096);
    rig.file = rig.engine.add_file(Arc::new(file)).expect("it has room");
    let half = ALIGNMENT as u64;
    let across = rig.transfer(Direction::Write, limit - half, rig.piece(2 * ALIGNMENT, 1));
    assert_eq!(across.result.ok(), Some(ALIGNMENT));
    let beyond = rig.transfer(Direction::Write, limit, rig.piece(ALIGNMENT, 1));
    let error = beyond.result.expect_err("the limit is reached");
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
}

fn what_cannot_be_is_an_error_and_the_engine_goes_on(kind: Kind) {
    let mut rig = kind.rig(1 << 20);
    for offset in [u64::MAX, u64::MAX - 4095, 1 << 63, (1 << 63) - 4096] {
        let done = rig.transfer(Direction::Read, offset, rig.piece(8192, 1));
        let error = done.result.expect_err("no file is that long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{offset}");
        assert_eq!(done.op.memory.len(), 8192, "the memory comes back");
    }
    let mut op = rig.op(1, Direction::Read, 0, rig.piece(ALIGNMENT, 1));
    op.skip = ALIGNMENT + 1;
    rig.engine.push(op);
    assert!(rig.in_order(1).remove(0).result.is_err());
    let mut op = rig.op(1, Direction::Read, 0, rig.piece(ALIGNMENT, 1));
    op.file = FileId(55);
    rig.engine.push(op);
    let error = rig.in_order(1).remove(0).result.expect_err("no such file");
    assert_eq!(error.to_string(), "the engine has no file 55");
    let good = rig.transfer(Direction::Write, 0, rig.piece(ALIGNMENT, 1));
    assert_eq!(good.result.ok(), Some(ALIGNMENT));
}

fn more_than_the_depth_is_an_error(kind: Kind) {
    let mut rig = kind.rig(1 << 20);
    assert_eq!(rig.engine.depth(), DEPTH);
    for id in 0..=DEPTH as u64 {
        let op = rig.op(id, Direction::Write, id * 4096, rig.piece(ALIGNMENT, 1));
        rig.engine.push(op);
    }
    let done = rig.collect(DEPTH + 1);
    let failed: Vec<u64> = (done.values())
        .filter(|done| done.result.is_err())
        .map(|done| done.op.id)
        .collect();
    assert_eq!(failed, [DEPTH as u64]);
}

fn an_error_of_the_disk_is_its_number(kind: Kind) {
    let mut rig = kind.rig(4096);
    let read_only = File::open("/proc/self/exe").expect("the program is a file");
    rig.file = rig
        .engine
        .add_file(Arc::new(read_only))
        .expect("it has room");
    let done = rig.transfer(Direction::Write, 0, rig.piece(ALIGNMENT, 1));
    let error = done.result.expect_err("it is open for reading only");
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::BADF.raw_os_error())
    );
}
