//! `forebay devices`: what is there, and why there is no accelerator.

use std::{fs, path::Path};

use forebay_tests::harness::{Process, TestRepository, echo};

/// Runs `forebay devices` with `library` in place of CUDA's; each in a process of its own, because
/// libtorch asks for accelerators once.
async fn listed(kind: &str, library: &Path) -> String {
    let repository = TestRepository::default();
    let config = repository.scratch().join("forebay.toml");
    let toml = format!(
        "[device]\nkind = \"{kind}\"\nlibrary = \"{}\"\n",
        library.display()
    );
    fs::write(&config, toml).unwrap();
    Process::devices(&config).await
}

#[tokio::test]
async fn the_cpu_is_always_listed_and_cuda_missing_tells_how_to_find_it() {
    let report = listed("auto", Path::new("libtorch_cuda.so")).await;
    assert!(report.starts_with("cpu: "), "{report}");
    assert!(report.contains("libtorch 2.11.0"), "{report}");
    let listed = report.lines().count();
    assert!(
        listed >= 2,
        "either accelerators or why there is none: {report}"
    );
}

#[tokio::test]
async fn a_library_that_is_nowhere_is_told_with_the_mend() {
    let report = listed("auto", Path::new("libno_such_accelerator.so")).await;
    for part in [
        "no accelerator: libno_such_accelerator.so was not found",
        "LD_LIBRARY_PATH",
        "2.11.0",
    ] {
        assert!(report.contains(part), "{report}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_library_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("libtorch_cuda.so");
    // Long enough to hold the header of one.
    fs::write(&file, "no library at all ".repeat(100)).unwrap();
    let report = listed("auto", &file).await;
    assert!(
        report.contains("libtorch_cuda.so does not load"),
        "{report}"
    );
    assert!(report.contains("invalid ELF header"), "{report}");
}

#[tokio::test]
async fn a_library_that_brings_nothing_is_told_as_such() {
    let report = listed("auto", Path::new(env!("FOREBAY_EMPTY_LIBRARY"))).await;
    assert!(report.contains("registers no accelerator"), "{report}");
}

#[tokio::test]
async fn a_library_of_another_version_is_told_as_such() {
    let report = listed("auto", Path::new(env!("FOREBAY_FOREIGN_LIBRARY"))).await;
    assert!(report.contains("not of the same version"), "{report}");
    assert!(report.contains("undefined symbol"), "{report}");
}

#[tokio::test]
async fn accelerators_are_listed_one_a_line() {
    let report = listed("auto", Path::new(env!("FOREBAY_FAKE_ACCELERATOR"))).await;
    let lines: Vec<_> = report.lines().collect();
    assert!(lines[0].starts_with("cpu: "), "{report}");
    // Those of `fake_accelerator/fake.h`.
    let fakes: Vec<_> = (0..4)
        .map(|index| format!("fake:{index}: 64.0 MiB of memory, 0 B in use"))
        .collect();
    assert_eq!(lines[1..], fakes, "{report}");
    assert!(!report.contains("no accelerator"), "{report}");
}

#[tokio::test]
async fn a_server_that_is_to_have_an_accelerator_does_not_start_without_one() {
    let toml = "[device]\nkind = \"accelerator\"\nlibrary = \"libno_such_accelerator.so\"\n";
    let refused = Process::refuse(TestRepository::default(), toml).await;
    for part in [
        "device.kind: an accelerator is asked for",
        "was not found",
        "LD_LIBRARY_PATH",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
}

#[tokio::test]
async fn check_tells_of_a_gpu_that_is_not_there() {
    let config = echo(
        "echo",
        "TYPE_FP32",
        "instance_group { kind: KIND_GPU gpus: [ 63 ] }",
    );
    let repository = TestRepository::default().with_model("echo", &config, None);
    let checked = Process::check(&repository).await;
    assert!(!checked.status.success());
    assert!(
        checked.report.contains("instance_group"),
        "{}",
        checked.report
    );
}
