//! The bare echo over stock tonic: what the wire costs. Not a peer but a limit, of the identity alone.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Setup, contestant::Recipe};

/// Returns what starts it. It has no models, and says that each is ready.
pub(super) fn recipe(setup: &Setup<'_>) -> Recipe {
    let program = setup.programs.path("examples/tonic_echo");
    let files = vec![program.clone()];
    let command = move |_: &Path, port: u16| {
        let mut command = Command::new(&program);
        command.arg(format!("127.0.0.1:{port}"));
        command
    };
    Recipe {
        name: "echo",
        models: PathBuf::new(),
        four: PathBuf::new(),
        files,
        command: Box::new(command),
        shared_memory: None,
    }
}
