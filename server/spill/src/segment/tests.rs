use std::{
    error::Error as _,
    os::unix::fs::{FileExt, PermissionsExt},
};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o7777
}

#[test]
fn a_missing_directory_is_made_for_this_user_only() {
    let home = tempfile::tempdir().expect("a directory can be made");
    let path = home.path().join("a/b");
    let dir = Dir::open(&path, true).expect("it can be made");
    assert_eq!(mode(&path), 0o700);
    assert_eq!(dir.path(), path);
    assert!(dir.free_bytes().expect("it is there") > 0);
}

#[test]
fn a_file_has_no_name_and_all_of_its_space() {
    let home = tempfile::tempdir().expect("a directory can be made");
    let dir = Dir::open(home.path(), true).expect("it can be used");
    let file = dir.create(1 << 20).expect("there is room");
    let stat = file.metadata().expect("it is open");
    assert_eq!((stat.len(), stat.nlink()), (1 << 20, 0));
    assert!(stat.blocks() * 512 >= 1 << 20, "{} blocks", stat.blocks());
    assert_eq!(stat.mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(home.path()).expect("it is there").count(), 0);
}

#[test]
fn each_way_makes_a_file_without_a_name() {
    let home = tempfile::tempdir().expect("a directory can be made");
    for (direct, unnamed) in [(true, true), (true, false), (false, true), (false, false)] {
        let file = Way { direct, unnamed }.open(home.path());
        let file = file.unwrap_or_else(|error| panic!("{direct} {unnamed}: {error}"));
        let stat = file.metadata().expect("it is open");
        assert_eq!((stat.nlink(), stat.mode() & 0o777), (0, 0o600));
        let unaligned = file.write_at(&[1; 5], 0);
        assert_eq!(unaligned.is_err(), direct, "only O_DIRECT wants borders");
    }
    assert_eq!(fs::read_dir(home.path()).expect("it is there").count(), 0);
}

#[test]
fn the_best_way_is_taken() {
    let home = tempfile::tempdir().expect("a directory can be made");
    let (way, _) = Way::find(home.path()).expect("a file can be made");
    let (direct, unnamed) = (true, true);
    assert_eq!(way, Way { direct, unnamed }, "TMPDIR is to be on a disk");
}

#[test]
fn a_directory_that_everybody_may_write_to_is_refused() {
    let home = tempfile::tempdir().expect("a directory can be made");
    let allow = |mode| {
        let set = fs::set_permissions(home.path(), fs::Permissions::from_mode(mode));
        set.expect("it is ours");
        Dir::open(home.path(), true)
    };
    let error = allow(0o777).expect_err("others could remove files");
    assert!(matches!(error, Error::WorldWritable { .. }), "{error}");
    assert!(error.to_string().contains("mode 0700"), "{error}");
    assert!(allow(0o1777).is_ok(), "a sticky bit keeps others out");
    assert!(allow(0o755).is_ok());
}

#[test]
fn what_is_no_directory_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    let error = Dir::open(file.path(), true).expect_err("it is a file");
    assert!(matches!(error, Error::NotADirectory { .. }), "{error}");
    let error = Dir::open(&file.path().join("below"), true).expect_err("it is below a file");
    assert!(matches!(error, Error::Create { .. }), "{error}");
    assert!(error.source().is_some());
}

#[test]
fn a_file_beyond_the_space_is_refused_by_the_system() {
    let home = tempfile::tempdir().expect("a directory can be made");
    let dir = Dir::open(home.path(), true).expect("it can be used");
    let error = dir.create(1 << 50).expect_err("no disk is that large");
    let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::FileTooLarge];
    assert!(kinds.contains(&error.kind()), "{error}");
}

#[test]
fn memory_is_refused_unless_it_is_allowed() {
    let Ok(home) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("not checked: there is no /dev/shm");
        return;
    };
    let error = Dir::open(home.path(), false).expect_err("it is memory");
    assert!(matches!(error, Error::Tmpfs { .. }), "{error}");
    let dir = Dir::open(home.path(), true).expect("it is allowed");
    assert!(dir.create(4096).is_ok());
}

#[test]
fn file_systems_are_told_apart_by_their_numbers() {
    assert_eq!(Medium::of(0x0102_1994), Medium::Memory);
    assert_eq!(Medium::of(0x6969), Medium::Network);
    assert_eq!(Medium::of(0xef53), Medium::Other);
}
