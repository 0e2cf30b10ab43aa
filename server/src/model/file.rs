//! Whether a model's file is still the one that was checked.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A model's file as it was when the model was checked.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    state: Option<(u64, SystemTime)>,
}

impl File {
    /// Notes the state of the file at `path`. What is no file never changes.
    pub fn look(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            state: state(path).ok().flatten(),
        }
    }

    /// Checks that it is still the one that was checked: all that is known of the model holds for it.
    ///
    /// # Errors
    /// It is not, or cannot be read; the text says what to do.
    pub fn check(&self) -> Result<(), String> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        match state(&self.path) {
            Err(error) => Err(format!(
                "{name} cannot be read again ({error}); put it back"
            )),
            Ok(state) if state != self.state => Err(format!(
                "{name} is not the file that was loaded at start; put that back, or start the server again"
            )),
            Ok(_) => Ok(()),
        }
    }
}

fn state(path: &Path) -> io::Result<Option<(u64, SystemTime)>> {
    let file = fs::metadata(path)?;
    Ok(match file.is_file() {
        true => Some((file.len(), file.modified()?)),
        false => None,
    })
}
