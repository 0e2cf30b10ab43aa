use std::error::Error as _;

use super::*;
use crate::engine::fault::{Fault, Faulty, plan};

fn home() -> (tempfile::TempDir, Dir) {
    let home = tempfile::tempdir().expect("a directory can be made");
    let dir = Dir::open(home.path(), true).expect("it can be used");
    (home, dir)
}

fn refuses(errno: Errno) -> impl Fn(usize) -> Built {
    move |_| Err(errno.into())
}

/// A ring that is set up and whose first operation of one direction fails.
fn fails(direction: Direction, errno: Errno) -> impl Fn(usize) -> Built {
    move |depth| {
        let plan = plan::each(direction, Fault::Errno(errno.raw_os_error()));
        let clock = Arc::new(std::time::Instant::now);
        let (engine, _) = Faulty::new(Box::new(Psync::new(depth)?), plan, clock);
        Ok(Box::new(engine))
    }
}

#[test]
fn the_engine_that_was_chosen_is_opened() {
    let (_home, dir) = home();
    for (choice, name) in [
        (Choice::Auto, "io_uring"),
        (Choice::IoUring, "io_uring"),
        (Choice::Psync, "psync"),
    ] {
        let opened = open(&dir, choice, 5).expect("the tests need io_uring: allow it");
        assert_eq!((opened.engine.name(), opened.engine.depth()), (name, 5));
        assert_eq!(opened.why, None);
    }
}

#[test]
fn where_io_uring_is_not_to_be_had_the_other_engine_is_taken_and_says_why() {
    let (_home, dir) = home();
    for errno in [
        Errno::PERM,
        Errno::ACCESS,
        Errno::NOSYS,
        Errno::OPNOTSUPP,
        Errno::NOMEM,
    ] {
        let opened = open_with(&dir, Choice::Auto, 4, refuses(errno)).expect("psync works");
        assert_eq!((opened.engine.name(), opened.engine.depth()), ("psync", 4));
        let why = opened.why.expect("it is told");
        assert!(why.contains(&errno.to_string()), "{why}");
    }
    let ring = fails(Direction::Read, Errno::OPNOTSUPP);
    let opened = open_with(&dir, Choice::Auto, 4, ring).expect("psync works");
    assert!(opened.why.is_some(), "a ring that cannot read is none");
}

#[test]
fn an_engine_that_must_be_io_uring_is_an_error_that_says_what_to_do() {
    let (_home, dir) = home();
    let error = open_with(&dir, Choice::IoUring, 4, refuses(Errno::PERM));
    let error = error.expect_err("it is not allowed");
    assert!(
        error.to_string().contains("choose auto or psync"),
        "{error}"
    );
    let source = error.source().expect("the cause is kept");
    assert_eq!(source.to_string(), io::Error::from(Errno::PERM).to_string());
}

#[test]
fn a_disk_that_fails_is_an_error_and_no_reason_for_the_other_engine() {
    let (_home, dir) = home();
    for direction in [Direction::Write, Direction::Read] {
        for errno in [Errno::IO, Errno::NOSPC, Errno::NOMEM] {
            let ring = fails(direction, errno);
            let error = open_with(&dir, Choice::Auto, 4, ring).expect_err("the disk fails");
            assert!(matches!(error, Error::Probe { .. }), "{error}");
        }
    }
    let error = open_with(&dir, Choice::Auto, 4, refuses(Errno::MFILE));
    let error = error.expect_err("too many open files are no lack of io_uring");
    assert!(matches!(error, Error::Setup { .. }), "{error}");
}

#[test]
fn a_disk_that_changes_a_bit_is_found_out() {
    let (_home, dir) = home();
    let ring = |depth| -> Built {
        let plan = plan::each(Direction::Read, Fault::Flip { bit: 1000 });
        let clock = Arc::new(std::time::Instant::now);
        Ok(Box::new(
            Faulty::new(Box::new(Uring::new(depth)?), plan, clock).0,
        ))
    };
    let error = open_with(&dir, Choice::Auto, 4, ring).expect_err("a bit is wrong");
    assert!(matches!(error, Error::Probe { .. }), "{error}");
}

#[test]
fn names_are_read_and_printed_alike() {
    for choice in [Choice::Auto, Choice::IoUring, Choice::Psync] {
        assert_eq!(choice.to_string().parse::<Choice>().ok(), Some(choice));
    }
    let error = "aio".parse::<Choice>().expect_err("it does not exist");
    assert!(
        error.to_string().contains("\"aio\" is no engine"),
        "{error}"
    );
}
