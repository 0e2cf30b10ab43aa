//! The files that reports go to.
//!
//! Invariant: a file is opened before its report's subject is measured, so that a wrong path costs
//! nothing; and what was measured is written wherever it can be, whatever else fails.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;

/// A file that waits for its report. What it held stays until then; one that was made for a report
/// that never comes is removed.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    file: File,
    /// Whether it was made here, and holds nothing yet.
    is_new: bool,
}

impl ReportFile {
    /// Opens the file at `path`, if there is one to be written.
    ///
    /// # Errors
    /// It can be neither opened nor made.
    pub fn open(path: Option<&Path>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let mut options = OpenOptions::new();
        options.write(true);
        let opened = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => options
                .create(true)
                .truncate(false)
                .open(path)
                .map(|file| (file, false)),
            made => made.map(|file| (file, true)),
        };
        let (file, is_new) =
            opened.with_context(|| format!("open {} for the report", path.display()))?;
        Ok(Some(Self {
            path: path.to_owned(),
            file,
            is_new,
        }))
    }

    /// Puts `text` in the place of what the file held.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(mut self, text: &[u8]) -> Result<()> {
        self.is_new = false;
        self.replace(text)
            .with_context(|| format!("write {}", self.path.display()))
    }

    /// Writes `report` as JSON to `file`, if there is one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_json(file: Option<Self>, report: &impl Serialize) -> Result<()> {
        let Some(file) = file else { return Ok(()) };
        let mut text = serde_json::to_vec(report).context("write the report as JSON")?;
        text.push(b'\n');
        file.write(&text)
    }

    fn replace(&mut self, text: &[u8]) -> io::Result<()> {
        // Pipes and terminals have no length.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(text)
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if self.is_new {
            // An empty file that stays harms nobody.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> ReportFile {
        ReportFile::open(Some(path)).unwrap().unwrap()
    }

    #[test]
    fn a_report_takes_the_place_of_the_one_before_and_not_sooner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        ReportFile::write_json(Some(open(&path)), &"the first one").unwrap();
        let second = open(&path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "\"the first one\"\n");
        second.write(b"2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        drop(open(&path));
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
    }

    #[test]
    fn a_file_whose_report_never_comes_is_not_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let file = open(&path);
        assert!(path.exists());
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            folder.path().join("none/report.json"),
            folder.path().to_owned(),
        ] {
            let error = ReportFile::open(Some(&path)).unwrap_err();
            let name = path.display().to_string();
            assert!(error.to_string().contains(&name), "{error:#}");
        }
    }
}
