//! A libtorch that the user named by `LIBTORCH`: checked before a build of minutes fails on it.

use std::{fs, path::Path};

use anyhow::{Result, bail, ensure};

use super::VERSION;

/// Checks that `folder` is a libtorch of the version that we build with.
///
/// # Errors
/// Names what is wrong with it and what to do.
pub(super) fn check(folder: &Path) -> Result<()> {
    let shown = folder.display();
    let mend = format!(
        "set LIBTORCH to a libtorch {VERSION}, or unset it and let `cargo xtask libtorch` get one"
    );
    ensure!(
        folder.join("lib/libtorch_cpu.so").exists() || folder.join("lib/libtorch.so").exists(),
        "LIBTORCH is {shown}, which has no lib/libtorch.so; {mend}"
    );
    ensure!(
        folder.join("include/ATen").exists(),
        "LIBTORCH is {shown}, which has no include/ATen; {mend}"
    );
    let Some(found) = version(folder) else {
        bail!(
            "LIBTORCH is {shown}, which says its version neither in build-version nor in version.py; {mend}"
        )
    };
    // "2.11.0+cu130" is 2.11.0, built for one kind of device.
    let release = found.split('+').next().unwrap_or(&found);
    ensure!(
        release == VERSION,
        "LIBTORCH is {shown}, which is libtorch {found}, and this workspace builds with {VERSION}; {mend}"
    );
    Ok(())
}

/// Reads the version of a libtorch, or of the `torch` folder of a Python installation.
fn version(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let python = fs::read_to_string(folder.join("version.py")).ok()?;
    let line = python
        .lines()
        .find(|line| line.starts_with("__version__"))?;
    line.split(['\'', '"']).nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(file: &str, text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("include/ATen")).unwrap();
        fs::create_dir_all(folder.path().join("lib")).unwrap();
        fs::write(folder.path().join("lib/libtorch.so"), "").unwrap();
        fs::write(folder.path().join(file), text).unwrap();
        folder
    }

    #[test]
    fn accepts_any_build_of_the_version() {
        for text in ["2.11.0", "2.11.0+cpu\n"] {
            check(folder_with("build-version", text).path()).unwrap();
        }
        let python = "from typing import Optional\n__version__ = '2.11.0+cu130'\ndebug = False\n";
        check(folder_with("version.py", python).path()).unwrap();
    }

    #[test]
    fn names_a_wrong_version_and_what_to_do() {
        let folder = folder_with("build-version", "2.10.1+cpu");
        let error = check(folder.path()).unwrap_err().to_string();
        assert!(error.contains("libtorch 2.10.1+cpu"), "{error}");
        assert!(
            error.contains("builds with 2.11.0; set LIBTORCH to"),
            "{error}"
        );
    }

    #[test]
    fn names_a_folder_that_is_no_libtorch() {
        let folder = tempfile::tempdir().unwrap();
        let error = check(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("has no lib/libtorch.so; set LIBTORCH to"),
            "{error}"
        );
    }
}
