//! Python's torch without the CUDA libraries that its wheel asks for, to export models on the CPU.
//!
//! The wheel's `import torch` needs twelve wheels of NVIDIA's, 2.3 GB, also where nothing runs on a
//! GPU. Here empty libraries of the same names stand in for all but two small ones: symbols are bound
//! when they are first called, and on the CPU none of theirs is. Owns `.cache/torch-python`, which is
//! whole or absent.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    fetch::Fetcher,
    libtorch::{self, PARTS, check_room},
    process::{self, Interrupt},
    python::Python,
    workspace::Workspace,
};

/// What the marker says; a change of it, with a change of what follows, makes the folder anew.
const RECIPE: &str = "torch 2.11.0 for CPython 3.11, layout 1\n";
const MARKER: &str = "recipe";

/// The packages that `import torch` and inductor need.
const PACKAGES: [&str; 7] = [
    "filelock==4.2.11",
    "fsspec==2026.9.0",
    "jinja2==3.1.6",
    "networkx==3.6.1",
    "setuptools==81.0.0",
    "sympy==1.14.0",
    "typing-extensions==4.16.0",
];

/// What of the wheels in `PARTS` goes where, in their order.
const RULES: [&[&str]; 3] = [
    &[
        "torch/=torch/",
        "torchgen/=torchgen/",
        "functorch/=functorch/",
        "torch-2.11.0.dist-info/=torch-2.11.0.dist-info/",
    ],
    &["nvidia/cu13/lib/libcudart.so.13=nvidia/cu13/lib/libcudart.so.13"],
    &["nvidia/cu13/lib/libcupti.so.13=nvidia/cu13/lib/libcupti.so.13"],
];

/// The libraries that empty ones stand in for.
const STAND_INS: [&str; 10] = [
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libcufft.so.12",
    "libcufile.so.0",
    "libcurand.so.10",
    "libcusparse.so.12",
    "libcusparseLt.so.0",
    "libnccl.so.2",
    "libnvshmem_host.so.3",
];

/// Python reads this at its start: extension modules, and what they need, bind symbols lazily.
const SITE: &str = "import os, sys\nsys.setdlopenflags(os.RTLD_LAZY)\n";

/// The unpacked folder, with room for the file system's own needs.
const UNPACKED_BYTES: u64 = 1300 << 20;

/// A torch to export with, or why there is none.
#[derive(Debug)]
pub(crate) enum TorchPython {
    /// The user's own.
    Installed,
    /// In this folder, for `PYTHONPATH`.
    Folder(PathBuf),
    /// None can be had here, for this reason.
    None(String),
}

impl TorchPython {
    /// Finds the user's torch, or gets one into `.cache/torch-python`.
    pub(crate) fn prepare(
        workspace: &Workspace,
        python: &Python,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let compiler = Command::new("g++").arg("--version").output();
        if !compiler.is_ok_and(|output| output.status.success()) {
            return Ok(Self::None("there is no g++ to compile with".to_owned()));
        }
        if let Some(found) = answer(workspace, python, "import torch; print(torch.__version__)")?
            && found.split('+').next() == Some(libtorch::VERSION)
        {
            return Ok(Self::Installed);
        }
        let folder = workspace.cache("torch-python");
        if fs::read_to_string(folder.join(MARKER)).is_ok_and(|found| found == RECIPE) {
            return Ok(Self::Folder(folder));
        }
        let asks = "import sys, platform; \
             print(sys.implementation.name, *sys.version_info[:2], sys.platform, platform.machine())";
        let found = answer(workspace, python, asks)?.unwrap_or_default();
        if found != "cpython 3 11 linux x86_64" {
            return Ok(Self::None(format!(
                "python3 is {found:?}, which has no torch {}, and one is fetched for CPython 3.11 on \
                 linux and x86_64 only",
                libtorch::VERSION
            )));
        }
        make(workspace, python, &folder, interrupt)
            .with_context(|| format!("get torch {} for python3", libtorch::VERSION))?;
        Ok(Self::Folder(folder))
    }
}

/// Runs one line of Python and returns what it printed, or `None` where it failed.
fn answer(workspace: &Workspace, python: &Python, line: &str) -> Result<Option<String>> {
    let output = process::capture(python.command(workspace).args(["-c", line]))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success().then_some(text))
}

fn make(
    workspace: &Workspace,
    python: &Python,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<()> {
    let fetcher = Fetcher::new(workspace, interrupt)?;
    let wheels = PARTS.iter().map(|part| &part.wheel);
    let fetched: u64 = wheels
        .clone()
        .map(|wheel| fetcher.missing_bytes(wheel))
        .sum();
    check_room(&workspace.cache(""), fetched + UNPACKED_BYTES)?;

    let partial = workspace.cache("torch-python.partial");
    libtorch::remove(&partial)?;
    python.install(workspace, &partial, &PACKAGES, interrupt)?;
    for (wheel, rules) in wheels.clone().zip(RULES) {
        let path = fetcher.fetch(wheel)?;
        fetcher.unpack(&path, &partial, rules)?;
    }
    make_stand_ins(&partial.join("nvidia/cu13/lib"))?;
    fs::write(partial.join("sitecustomize.py"), SITE).context("write sitecustomize.py")?;
    fs::write(partial.join(MARKER), RECIPE).context("write the marker")?;
    libtorch::remove(folder)?;
    fs::rename(&partial, folder).with_context(|| format!("make {}", folder.display()))?;
    for wheel in wheels {
        match fs::remove_file(fetcher.folder().join(wheel.file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context("remove a wheel");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes empty libraries by the names that torch's own ask for.
fn make_stand_ins(lib: &Path) -> Result<()> {
    for name in STAND_INS {
        let mut linker = Command::new("g++");
        linker.args(["-shared", "-o", name]);
        linker.arg(format!("-Wl,-soname,{name}"));
        linker.args(["-x", "c++", "/dev/null"]);
        let output = process::capture(linker.current_dir(lib))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "link {name}: {}", said.trim());
    }
    Ok(())
}
