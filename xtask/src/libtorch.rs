//! libtorch without a system-wide installation: the part of PyTorch's wheel that serving needs.
//!
//! Owns `.cache/libtorch`. Invariant: the folder is whole or absent, because it is made beside
//! its place and renamed. A libtorch that the user names is checked and never touched.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use indicatif::BinaryBytes;

use crate::{
    fetch::{Fetcher, Wheel},
    process::{self, Interrupt},
    say,
    workspace::Workspace,
};

mod users;

/// The version that the workspace's `tch` is made for.
pub(crate) const VERSION: &str = "2.11.0";

/// What the marker says; a change of it, with a change of what follows, makes the folder anew.
const RECIPE: &str = "torch 2.11.0 with CUDA 13.0, without libtorch_cuda, layout 1\n";
const MARKER: &str = "recipe";

/// The unpacked folder, with room for the file system's own needs.
const UNPACKED_BYTES: u64 = 600 << 20;

/// A wheel, and where its members go.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) wheel: Wheel,
    rules: &'static [&'static str],
}

/// `libtorch_cpu.so` needs CUDA's runtime and CUPTI, which are small, and nothing else of CUDA.
pub(crate) const PARTS: [Part; 3] = [
    Part {
        wheel: Wheel {
            package: "torch",
            version: VERSION,
            file: "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            bytes: 530_604_548,
            sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
            platforms: &["manylinux_2_28_x86_64"],
        },
        rules: &[
            "torch/lib/libtorch_cpu.so=lib/libtorch_cpu.so",
            "torch/lib/libc10.so=lib/libc10.so",
            "torch/lib/libgomp.so.1=lib/libgomp.so.1",
            "torch/include/=include/",
        ],
    },
    Part {
        wheel: Wheel {
            package: "nvidia-cuda-runtime",
            version: "13.0.96",
            file: "nvidia_cuda_runtime-13.0.96-py3-none-\
                   manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            bytes: 2_243_632,
            sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
            platforms: &["manylinux2014_x86_64", "manylinux_2_17_x86_64"],
        },
        rules: &["nvidia/cu13/lib/libcudart.so.13=lib/libcudart.so.13"],
    },
    Part {
        wheel: Wheel {
            package: "nvidia-cuda-cupti",
            version: "13.0.85",
            file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
            bytes: 10_715_597,
            sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
            platforms: &["manylinux_2_25_x86_64"],
        },
        rules: &["nvidia/cu13/lib/libcupti.so.13=lib/libcupti.so.13"],
    },
];

/// Sees to it that there is a libtorch to build with.
///
/// # Errors
/// A wrong version that the user named, another platform, no python3, pip or g++, no room on the
/// disk, no network; each says what to do.
pub(crate) fn ensure(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    if let Some(named) = workspace.users_libtorch() {
        return users::check(named);
    }
    if is_ready(&workspace.libtorch()) {
        return Ok(());
    }
    check_platform()?;
    check_compiler()?;
    fs::create_dir_all(workspace.cache("")).context("make .cache")?;
    let _lock = lock(&workspace.cache("libtorch.lock"))?;
    if is_ready(&workspace.libtorch()) {
        return Ok(());
    }
    make(workspace, interrupt)
        .with_context(|| format!("get libtorch {VERSION} (or set LIBTORCH to one that you have)"))
}

/// Runs `cargo xtask libtorch`: sees to libtorch and says where it is.
pub(crate) fn command(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    ensure(workspace, interrupt)?;
    let libtorch = workspace.libtorch();
    let whose = if workspace.users_libtorch().is_some() {
        " (your LIBTORCH)"
    } else {
        ""
    };
    say(format_args!(
        "libtorch {VERSION} is at {}{whose}",
        workspace.shown(&libtorch)
    ))
}

fn is_ready(folder: &Path) -> bool {
    fs::read_to_string(folder.join(MARKER)).is_ok_and(|found| found == RECIPE)
}

fn check_platform() -> Result<()> {
    use std::env::consts::{ARCH, OS};
    ensure!(
        OS == "linux" && ARCH == "x86_64",
        "a libtorch can be fetched for linux on x86_64 only, and this is {OS} on {ARCH}; \
         set LIBTORCH to a libtorch {VERSION} for this machine"
    );
    Ok(())
}

fn check_compiler() -> Result<()> {
    match Command::new("g++").arg("--version").output() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "g++ is not on PATH, and the bindings to libtorch are compiled with it; \
             install it (Debian and Ubuntu: apt-get install g++)"
        ),
        Err(error) => Err(error).context("start g++"),
    }
}

/// Takes the lock that keeps two runs from making one folder.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say(format_args!(
                "another cargo xtask is getting libtorch; waiting for it"
            ))?;
            file.lock().context("wait for the other cargo xtask")?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("lock .cache"),
    }
    Ok(file)
}

fn make(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    let fetcher = Fetcher::new(workspace, interrupt)?;
    let fetched: u64 = PARTS
        .iter()
        .map(|part| fetcher.missing_bytes(&part.wheel))
        .sum();
    check_room(&workspace.cache(""), fetched + UNPACKED_BYTES)?;

    let partial = workspace.cache("libtorch.partial");
    let folder = workspace.libtorch();
    remove(&partial)?;
    for part in &PARTS {
        let wheel = fetcher.fetch(&part.wheel)?;
        fetcher.unpack(&wheel, &partial, part.rules)?;
    }
    link_stand_in(&partial.join("lib"))?;
    fs::write(partial.join("build-version"), VERSION).context("write build-version")?;
    fs::write(partial.join(MARKER), RECIPE).context("write the marker")?;
    remove(&folder)?;
    fs::rename(&partial, &folder).with_context(|| format!("make {}", folder.display()))?;
    for part in &PARTS {
        // Half a gibibyte that nothing needs any more.
        fs::remove_file(fetcher.folder().join(part.wheel.file)).context("remove a wheel")?;
    }
    Ok(())
}

/// Removes a folder, if it is there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Checks that the disk of `folder` has `needed` bytes for us.
pub(crate) fn check_room(folder: &Path, needed: u64) -> Result<()> {
    let disk = rustix::fs::statvfs(folder)
        .with_context(|| format!("ask how much room {} has", folder.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    ensure!(
        free >= needed,
        "the disk of {} has {} free, and {} are needed; free some space, or set LIBTORCH",
        folder.display(),
        BinaryBytes(free),
        BinaryBytes(needed)
    );
    Ok(())
}

/// Makes the `libtorch.so` that `tch` links: the wheel's own would pull in all of CUDA.
fn link_stand_in(lib: &Path) -> Result<()> {
    let mut linker = Command::new("g++");
    linker.args(["-shared", "-o", "libtorch.so", "-Wl,-soname,libtorch.so"]);
    linker.args([
        "-Wl,-rpath,$ORIGIN",
        "-Wl,--no-as-needed",
        "-L.",
        "-ltorch_cpu",
    ]);
    let output = process::capture(linker.current_dir(lib))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "link libtorch.so: {}", said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_the_marker_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_ready(folder.path()));
        fs::write(folder.path().join(MARKER), "an older layout").unwrap();
        assert!(!is_ready(folder.path()));
        fs::write(folder.path().join(MARKER), RECIPE).unwrap();
        assert!(is_ready(folder.path()));
    }

    #[test]
    fn a_disk_without_room_is_named_with_both_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let error = check_room(folder.path(), u64::MAX).unwrap_err().to_string();
        assert!(error.contains("iB free, and"), "{error}");
        check_room(folder.path(), 0).unwrap();
    }
}
