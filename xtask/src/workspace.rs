//! Where things lie: the workspace's root, its cache, the build folder, libtorch.
//!
//! Owns the one reading of the environment.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::Deserialize;

/// The workspace that this binary was built from.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    libtorch: Option<PathBuf>,
    library_path: Option<OsString>,
}

impl Workspace {
    /// Finds the workspace, and the libtorch that the user named, if there is one.
    pub(crate) fn find() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = root.parent().unwrap_or(root).to_owned();
        #[expect(
            clippy::disallowed_methods,
            reason = "xtask has no configuration; these are the users' names for their libraries"
        )]
        let (named, library_path) = (
            std::env::var_os("LIBTORCH").map(|path| absolute(path.into())),
            std::env::var_os("LD_LIBRARY_PATH"),
        );
        // Cargo sets LIBTORCH to our own folder where the user did not set it.
        let ours = root.join(".cache/libtorch");
        let libtorch = named.filter(|path| !path.as_os_str().is_empty() && *path != ours);
        Self {
            root,
            libtorch,
            library_path,
        }
    }

    /// Returns a workspace rooted at `root`, for tests.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            libtorch: None,
            library_path: None,
        }
    }

    /// Returns the root folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns `.cache/name`: what was fetched or made, and git ignores.
    pub(crate) fn cache(&self, name: &str) -> PathBuf {
        self.root.join(".cache").join(name)
    }

    /// Returns the libtorch that the user named, or `None` where we get our own.
    pub(crate) fn users_libtorch(&self) -> Option<&Path> {
        self.libtorch.as_deref()
    }

    /// Returns the libtorch to build and run with.
    pub(crate) fn libtorch(&self) -> PathBuf {
        self.libtorch
            .clone()
            .unwrap_or_else(|| self.cache("libtorch"))
    }

    /// Returns cargo, set to run in this workspace with this libtorch.
    pub(crate) fn cargo(&self) -> Command {
        self.cargo_by("cargo".as_ref())
    }

    /// Returns `program`, which runs cargo, set up as that is.
    pub(crate) fn cargo_by(&self, program: &Path) -> Command {
        let mut cargo = Command::new(program);
        cargo.current_dir(&self.root);
        cargo.env("LIBTORCH", self.libtorch());
        cargo
    }

    /// Sets `command` up to run a program that is linked to libtorch, and returns it.
    pub(crate) fn with_libtorch<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let mut path = self.libtorch().join("lib").into_os_string();
        if let Some(rest) = &self.library_path {
            path.push(":");
            path.push(rest);
        }
        command.env("LD_LIBRARY_PATH", path)
    }

    /// Returns `path` as it is shown to people: relative to the root where it lies below it.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }

    /// Asks cargo what the workspace consists of.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let output = self
            .cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
            .output()
            .context("start cargo metadata")?;
        anyhow::ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).context("read what cargo metadata says")
    }
}

/// Returns `path` as it is from any folder: cargo and the programs it runs have others than ours.
fn absolute(path: PathBuf) -> PathBuf {
    // Fails for an empty path, which names nothing, and where our own folder is gone.
    std::path::absolute(&path).unwrap_or(path)
}

/// What we need of `cargo metadata`.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// The build folder, which a user's configuration may have moved.
    pub(crate) target_directory: PathBuf,
    /// The packages of the workspace.
    pub(crate) packages: Vec<Package>,
}

/// One package of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// What it builds.
    pub(crate) targets: Vec<Target>,
}

/// One thing that a package builds.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    /// Its name.
    pub(crate) name: String,
    /// Its kinds: `bin`, `bench`, ...
    pub(crate) kind: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_taken_from_the_folder_of_the_user() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute("libs/torch".into()), here.join("libs/torch"));
        assert_eq!(absolute("/opt/torch".into()), Path::new("/opt/torch"));
        assert_eq!(absolute(PathBuf::new()), Path::new(""));
    }
}
