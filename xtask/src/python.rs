//! The user's python3, and packages for it in a folder of our own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{self, Interrupt},
    say,
    workspace::Workspace,
};

/// A python3 that has pip.
#[derive(Debug, Clone)]
pub(crate) struct Python(());

impl Python {
    /// Finds python3 and its pip.
    ///
    /// # Errors
    /// Names which of the two is missing, and how to get it.
    pub(crate) fn find() -> Result<Self> {
        let mut version = Command::new("python3");
        version.args(["-m", "pip", "--version"]);
        match version.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => Ok(Self(())),
            Ok(_) => bail!(
                "python3 has no pip, which downloads come through; \
                 install it (Debian and Ubuntu: apt-get install python3-pip)"
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "python3 is not on PATH, and downloads come through its pip; \
                 install both (Debian and Ubuntu: apt-get install python3 python3-pip)"
            ),
            Err(error) => Err(error).context("start python3"),
        }
    }

    /// Returns python3, set to run in `workspace` with its output unbuffered.
    pub(crate) fn command(&self, workspace: &Workspace) -> Command {
        let mut python = Command::new("python3");
        python.arg("-u").current_dir(workspace.root());
        python
    }

    /// Returns the folder `.cache/python` with exactly `requirements` in it, for `PYTHONPATH`.
    ///
    /// A folder rather than a virtual environment: pip alone makes it, where Debian keeps `venv`
    /// in a package of its own.
    pub(crate) fn packages(
        &self,
        workspace: &Workspace,
        requirements: &[&str],
        interrupt: &Interrupt,
    ) -> Result<PathBuf> {
        let folder = workspace.cache("python");
        self.packages_in(workspace, &folder, requirements, interrupt)
    }

    /// Returns `folder`, which is of the cache, with exactly `requirements` in it.
    pub(crate) fn packages_in(
        &self,
        workspace: &Workspace,
        folder: &Path,
        requirements: &[&str],
        interrupt: &Interrupt,
    ) -> Result<PathBuf> {
        let stamp = folder.join("requirements.txt");
        let wanted = requirements.join("\n");
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(folder.to_owned());
        }
        say(format_args!("python packages: {}", requirements.join(" ")))?;
        let partial = folder.with_extension("partial");
        for old in [&partial, folder] {
            if old.exists() {
                fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
            }
        }
        self.install(workspace, &partial, requirements, interrupt)?;
        fs::write(partial.join("requirements.txt"), wanted).context("write the stamp")?;
        fs::rename(&partial, folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder.to_owned())
    }

    /// Installs `requirements`, and what they need, into `folder`.
    pub(crate) fn install(
        &self,
        workspace: &Workspace,
        folder: &Path,
        requirements: &[&str],
        interrupt: &Interrupt,
    ) -> Result<()> {
        let mut pip = self.command(workspace);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            // It runs without input.
            "--no-input",
        ]);
        pip.args(["--only-binary=:all:", "--target"])
            .arg(folder)
            .args(requirements);
        // It warns root of harm to the system's packages; this folder is no part of them.
        pip.env("PIP_ROOT_USER_ACTION", "ignore");
        process::run(&mut pip, interrupt)
    }
}
