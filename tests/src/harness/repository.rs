//! A model repository that lives as long as its test.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::models::{self, Fixture};

/// A folder of models, deleted when dropped.
#[derive(Debug)]
pub struct TestRepository {
    dir: TempDir,
}

impl Default for TestRepository {
    fn default() -> Self {
        Self {
            dir: tempfile::tempdir().expect("the system gives a folder"),
        }
    }
}

impl TestRepository {
    /// Adds fixture models.
    ///
    /// # Panics
    /// They cannot be written.
    #[must_use]
    pub fn with_fixtures(self, fixtures: &[Fixture]) -> Self {
        // Tests share the machine, and libtorch's threads get in one another's way.
        tch::set_num_threads(1);
        models::write(&self.path(), fixtures).expect("the fixtures can be written");
        self
    }

    /// Adds the model `name` in version 1: the text of its `config.pbtxt` and, unless its backend
    /// needs none, the bytes of its `model.pt`.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn with_model(self, name: &str, config: &str, module: Option<&[u8]>) -> Self {
        let model = self.path().join(name);
        let write = || {
            fs::create_dir_all(model.join("1"))?;
            fs::write(model.join("config.pbtxt"), config)?;
            match module {
                Some(bytes) => fs::write(model.join("1/model.pt"), bytes),
                None => Ok(()),
            }
        };
        write().expect("a model can be written");
        self
    }

    /// Returns the folder.
    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("models")
    }

    /// Returns a folder beside the models, for other files of the test.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }
}

/// Returns the `config.pbtxt` of a model without a file that gives its input `x` of any length
/// back as `y`. `more` is added at the end.
pub fn echo(name: &str, data_type: &str, more: &str) -> String {
    let tensor = |field: &str, name: &str| {
        format!("{field} {{ name: \"{name}\" data_type: {data_type} dims: [ -1 ] }}\n")
    };
    let (input, output) = (tensor("input", "x"), tensor("output", "y"));
    format!("name: \"{name}\"\nbackend: \"identity\"\n{input}{output}{more}\n")
}
