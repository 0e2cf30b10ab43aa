//! A server under measurement: started on its core, waited for until its models are ready, ended with
//! all its children.
//!
//! Invariant: nothing that a contestant started outlives this value, also where it crashed.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    cell::{Model, served},
    cores::{Cores, spawn_on},
    usage::Tree,
};
use crate::{
    process::{Interrupt, Running},
    say,
    server::tail,
};

/// How often a start is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Returns the command that serves a folder of models at a port of the loopback.
pub(crate) type Serve = Box<dyn Fn(&Path, u16) -> Command>;

/// What starts a server.
pub(crate) struct Recipe {
    /// As the tables call it.
    pub(crate) name: &'static str,
    /// The folder with every model, with batching and without.
    pub(crate) models: PathBuf,
    /// The folder with each model once.
    pub(crate) four: PathBuf,
    /// What it is made of on the disk, without torch and without models.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) command: Serve,
    /// How its files in shared memory begin, if it has any; one that crashes leaves them.
    pub(crate) shared_memory: Option<String>,
}

/// Where contestants and their clients run, and what is needed to wait for one.
#[derive(Debug)]
pub(crate) struct Arena<'a> {
    pub(crate) cores: Cores,
    /// The program that waits until models are ready.
    pub(crate) await_ready: PathBuf,
    /// Where logs and reports go.
    pub(crate) folder: PathBuf,
    pub(crate) interrupt: &'a Interrupt,
}

/// A server that takes calls.
#[derive(Debug)]
pub(crate) struct Contestant {
    child: Running,
    port: u16,
    log: PathBuf,
    shared_memory: Option<String>,
    /// From its start until its models were ready.
    pub(crate) ready_after: Duration,
}

impl Contestant {
    /// Starts `recipe` with every model, or with each once.
    ///
    /// # Errors
    /// It ends, or does not come to serve; then the end of its log is shown.
    pub(crate) fn start(arena: &Arena<'_>, recipe: &Recipe, every: bool) -> Result<Self> {
        let folder = if every { &recipe.models } else { &recipe.four };
        let log = arena.folder.join(format!("{}.log", recipe.name));
        let port = free_port()?;
        let mut command = (recipe.command)(folder, port);
        let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share the log")?)
            .stderr(file)
            // A group of its own, so that stray children end with it; and out of reach of Ctrl-C.
            .process_group(0);
        let began = Instant::now();
        let child = spawn_on(&arena.cores.server, &mut command)?;
        let mut contestant = Self {
            child,
            port,
            log,
            shared_memory: recipe.shared_memory.clone(),
            ready_after: Duration::ZERO,
        };
        if let Err(error) = contestant.await_ready(arena, &names(every)) {
            arena.interrupt.check()?;
            // Here and once, because the reason goes into tables.
            say(format_args!(
                "{}'s log ends:\n{}",
                recipe.name,
                tail(&contestant.log)
            ))?;
            return Err(error);
        }
        contestant.ready_after = began.elapsed();
        Ok(contestant)
    }

    /// Returns where it listens, as clients take it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns its processes.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(self.child.id())
    }

    /// Returns how it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    fn await_ready(&mut self, arena: &Arena<'_>, models: &[String]) -> Result<()> {
        let mut command = Command::new(&arena.await_ready);
        command.arg(self.endpoint()).args(models);
        let mut waiting = spawn_on(&arena.cores.client, &mut command)?;
        loop {
            arena.interrupt.check()?;
            if let Some(status) = self.ended()? {
                bail!("it ended with {status} instead of serving");
            }
            match waiting.try_wait()? {
                None => thread::sleep(LOOK),
                Some(status) if status.success() => return Ok(()),
                Some(_) => bail!("its models did not become ready"),
            }
        }
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // One that has ended, or must be killed, was seen before or does not matter any more.
        let _ = self.child.stop();
        if let Some(prefix) = &self.shared_memory {
            clear_shared_memory(prefix);
        }
    }
}

/// Removes the files in shared memory that begin with `prefix`, which is of this process alone.
fn clear_shared_memory(prefix: &str) {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let left = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    for entry in left {
        // What cannot be removed is told by the next listing of the folder, and harms no figure.
        let _ = fs::remove_file(entry.path());
    }
}

/// Returns the names that the models are served by.
fn names(every: bool) -> Vec<String> {
    let forms: &[bool] = if every { &[false, true] } else { &[true] };
    let names = |&batching: &bool| Model::ALL.map(|model| served(model, batching));
    forms.iter().flat_map(names).collect()
}

/// Returns a port that was free a moment ago; not every server can take one by itself.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}
