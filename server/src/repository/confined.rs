//! Finds and reads files without leaving the repository.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Returns `path` without symlinks.
///
/// # Errors
/// "problem; mend" where it is missing, unreadable, or leads out of `root`.
pub(super) fn resolve(root: &Path, path: &Path) -> Result<PathBuf, String> {
    let real = path.canonicalize().map_err(|error| {
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
            "a symlink to nothing; point it to what it means, or remove it".to_owned()
        } else {
            describe(&error)
        }
    })?;
    if real.starts_with(root) {
        Ok(real)
    } else {
        Err(format!(
            "a symlink that leads out of the repository, to '{}'; copy what it names into the \
             repository",
            real.display()
        ))
    }
}

/// Opens a regular file.
///
/// # Errors
/// As [`resolve`], and "problem; mend" where it is no regular file.
pub(super) fn open(root: &Path, path: &Path) -> Result<(PathBuf, File), String> {
    let path = resolve(root, path)?;
    // Asked first: opening a named pipe would wait for its other end.
    if !fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
        return Err("not a file; put a regular file there".to_owned());
    }
    let file = File::open(&path).map_err(|error| describe(&error))?;
    Ok((path, file))
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`], and "problem; mend" where it is larger or cannot be read.
pub(super) fn read(root: &Path, path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let (_, file) = open(root, path)?;
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| describe(&error))?;
    if bytes.len() as u64 > limit {
        return Err(format!("larger than {limit} bytes; shorten it"));
    }
    Ok(bytes)
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "missing; add it".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; make it readable for the user that runs the server".to_owned()
        }
        _ => format!("cannot be read ({error}); check the disk and the path"),
    }
}
