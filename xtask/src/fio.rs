//! `fio`, which the spill store is compared to: the system's own, or Debian's.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{debian, process::Interrupt, say, workspace::Workspace};

const RELEASE: &str = "bookworm";

/// It, and what it is linked to beyond what every Debian has.
const PACKAGES: [&str; 36] = [
    "fio",
    "libaio1",
    "libargon2-1",
    "libboost-iostreams1.74.0",
    "libboost-thread1.74.0",
    "libcryptsetup12",
    "libdaxctl1",
    "libdevmapper1.02.1",
    "libfmt9",
    "libgfapi0",
    "libgfrpc0",
    "libgfxdr0",
    "libglusterfs0",
    "libgssapi-krb5-2",
    "libibverbs1",
    "libicu72",
    "libjson-c5",
    "libk5crypto3",
    "libkeyutils1",
    "libkmod2",
    "libkrb5-3",
    "libkrb5support0",
    "libnbd0",
    "libndctl6",
    "libnl-3-200",
    "libnl-route-3-200",
    "libnuma1",
    "libpmem1",
    "libpmemblk1",
    "librados2",
    "librbd1",
    "librdmacm1",
    "libssl3",
    "libtirpc3",
    "libuuid1",
    "libxml2",
];

/// Where these have their libraries.
const LIBRARIES: [&str; 3] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/ceph",
    "lib/x86_64-linux-gnu",
];

/// Returns the fio to run, or `None` where there is none, which is told.
pub(crate) fn find(workspace: &Workspace, interrupt: &Interrupt) -> Option<PathBuf> {
    let of_system = PathBuf::from("fio");
    if starts(&of_system) {
        return Some(of_system);
    }
    match get(&workspace.cache("fio"), interrupt) {
        Ok(fio) => Some(fio),
        Err(error) => {
            // Standard output that is gone is met again by what follows.
            let _ = say(format_args!("there is no fio, install it: {error:#}"));
            None
        }
    }
}

/// Gets fio from Debian into `folder`.
fn get(folder: &Path, interrupt: &Interrupt) -> Result<PathBuf> {
    let root = folder.join(RELEASE);
    debian::unpack(RELEASE, &PACKAGES, &root, interrupt)?;
    let script = folder.join("fio");
    fs::write(&script, starter(&root))
        .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("make {}", script.display()))?;
    ensure!(starts(&script), "Debian's fio does not start here");
    Ok(script)
}

/// Returns a script that starts the fio below `root` with the libraries there.
fn starter(root: &Path) -> String {
    let libraries = LIBRARIES.map(|part| root.join(part).display().to_string());
    format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
        libraries.join(":"),
        root.join("usr/bin/fio").display()
    )
}

fn starts(fio: &Path) -> bool {
    let mut version = Command::new(fio);
    version.arg("--version").stdin(Stdio::null());
    version.output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_runs_what_lies_below_its_root_with_its_arguments() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("a folder");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        let (fake, script) = (root.join("usr/bin/fio"), home.path().join("fio"));
        fs::write(&fake, "#!/bin/sh\ntest \"$1\" = --version\n").unwrap();
        fs::write(&script, starter(&root)).unwrap();
        for file in [&fake, &script] {
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert!(starts(&script));
        fs::remove_file(&fake).unwrap();
        assert!(!starts(&script));
    }
}
