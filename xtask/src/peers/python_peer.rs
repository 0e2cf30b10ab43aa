//! What the peers in Python share: a folder of packages for each, and torch.
//!
//! Invariant: a folder `.cache/peers/NAME` is whole or absent.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::Setup;
use crate::{process::Interrupt, python::Python, torch_python::TorchPython};

/// The user's python3 with torch.
#[derive(Debug)]
pub(super) struct PythonPeers {
    pub(super) python: Python,
    /// Where torch is, unless it is installed.
    torch: Option<PathBuf>,
}

impl PythonPeers {
    /// Finds python3, and gets torch for it if need be.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn prepare(setup: &Setup<'_>, interrupt: &Interrupt) -> Result<Self> {
        let python = Python::find()?;
        let torch = match TorchPython::prepare(setup.workspace, &python, interrupt)? {
            TorchPython::Installed => None,
            TorchPython::Folder(folder) => Some(folder),
            TorchPython::None(reason) => bail!("{reason}"),
        };
        Ok(Self { python, torch })
    }

    /// Returns the value of `PYTHONPATH` for a server with `packages`.
    pub(super) fn path(&self, packages: &Path) -> OsString {
        let mut path = packages.as_os_str().to_owned();
        if let Some(torch) = &self.torch {
            path.push(":");
            path.push(torch);
        }
        path
    }
}

/// Returns the folder of the programs in Python that come with xtask.
pub(super) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Returns the text of the program `name` among them.
pub(super) fn text(name: &str) -> Result<String> {
    let path = sources().join(name);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}
