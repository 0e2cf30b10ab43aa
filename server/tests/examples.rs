//! The examples run.

use std::process::Command;

#[test]
fn ten_tensors_of_libtorch_are_doubled_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap();
    let run = Command::new(built.join("examples/ten_torch_tensors"))
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}
