//! Files of package releases: fetched through pip, checked by hash, unpacked.
//!
//! The work is done by two small Python programs beside this crate's sources, because pip's
//! settings are reached from Python only, and its zip and hash run at full speed in a debug
//! build. Invariant: a wheel under its own name has the hash that its entry demands.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::{
    libtorch,
    process::{self, Interrupt},
    python::Python,
    say,
    workspace::Workspace,
};

#[cfg(test)]
mod tests;

/// One file of one release.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wheel {
    /// The package.
    pub(crate) package: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// The name of the file.
    pub(crate) file: &'static str,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its hash.
    pub(crate) sha256: &'static str,
    /// The platforms to ask pip for; empty for a wheel that runs anywhere.
    pub(crate) platforms: &'static [&'static str],
}

/// Fetches and unpacks wheels.
#[derive(Debug)]
pub(crate) struct Fetcher<'a> {
    workspace: &'a Workspace,
    python: Python,
    interrupt: &'a Interrupt,
}

/// What the Python programs say.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Start { total: u64, resumed_at: u64 },
    At { bytes: u64 },
    Retry { resumed_at: u64, why: String },
    Note { text: String },
    Unfit { text: String },
    Fail { kind: Failure, text: String },
    Done,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Failure {
    Index,
    Network,
    Hash,
    Disk,
    Archive,
}

/// How a program ended that did not fail.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Unfit,
}

impl<'a> Fetcher<'a> {
    /// Finds the pip to fetch through.
    pub(crate) fn new(workspace: &'a Workspace, interrupt: &'a Interrupt) -> Result<Self> {
        let python = Python::find()?;
        Ok(Self {
            workspace,
            python,
            interrupt,
        })
    }

    /// Returns the folder that wheels are fetched to.
    pub(crate) fn folder(&self) -> PathBuf {
        self.workspace.cache("wheels")
    }

    /// Returns the bytes that fetching `wheel` will still write.
    pub(crate) fn missing_bytes(&self, wheel: &Wheel) -> u64 {
        let path = self.folder().join(wheel.file);
        let part = self.folder().join(format!("{}.part", wheel.file));
        let have = [path, part]
            .iter()
            .find_map(|file| fs::metadata(file).ok())
            .map_or(0, |found| found.len());
        wheel.bytes.saturating_sub(have)
    }

    /// Fetches `wheel` unless it is there, and returns its path.
    pub(crate) fn fetch(&self, wheel: &Wheel) -> Result<PathBuf> {
        let folder = self.folder();
        let path = folder.join(wheel.file);
        if path.exists() {
            return Ok(path);
        }
        let mut program = self.program("fetch.py");
        program.args([wheel.package, wheel.version, wheel.file]);
        program.arg(wheel.bytes.to_string()).arg(wheel.sha256);
        program.arg(&folder).args(wheel.platforms);
        let label = format!("{} {}", wheel.package, wheel.version);
        if self.follow(&mut program, &label)? == Outcome::Unfit {
            self.download(wheel, &folder)?;
            // The second run finds the whole file, and checks it.
            self.follow(&mut program, &label)?;
        }
        Ok(path)
    }

    /// Unpacks members of `wheel` into `folder`, by rules `from=to`.
    pub(crate) fn unpack(&self, wheel: &Path, folder: &Path, rules: &[&str]) -> Result<()> {
        let mut program = self.program("unpack.py");
        program.arg(wheel).arg(folder).args(rules);
        let name = wheel.file_name().unwrap_or(OsStr::new("wheel"));
        let package = name.to_string_lossy();
        let package = package.split('-').next().unwrap_or_default();
        self.follow(&mut program, &format!("unpack {package}"))?;
        Ok(())
    }

    fn program(&self, name: &str) -> Command {
        let mut program = self.python.command(self.workspace);
        program.arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("python")
                .join(name),
        );
        program
    }

    /// Fetches by `pip download`, which cannot resume, where pip's inside is not as we know it.
    fn download(&self, wheel: &Wheel, folder: &Path) -> Result<()> {
        let mut pip = self.python.command(self.workspace);
        pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"]);
        // It runs without input, so that it must not ask for any.
        pip.arg("--no-input");
        if !wheel.platforms.is_empty() {
            pip.args(["--python-version", "3.11"]);
        }
        for platform in wheel.platforms {
            pip.args(["--platform", platform]);
        }
        // pip gives a file its own name at once, which here only one has whose hash was checked.
        let apart = folder.join(format!("{}.pip", wheel.file));
        libtorch::remove(&apart)?;
        pip.arg("--dest").arg(&apart);
        pip.arg(format!("{}=={}", wheel.package, wheel.version));
        process::run(&mut pip, self.interrupt)?;
        let part = folder.join(format!("{}.part", wheel.file));
        fs::rename(apart.join(wheel.file), part)
            .with_context(|| format!("pip did not fetch {}", wheel.file))?;
        libtorch::remove(&apart)
    }

    /// Runs one of the programs and shows people what it says.
    fn follow(&self, program: &mut Command, label: &str) -> Result<Outcome> {
        let mut child = process::spawn(program.stdout(Stdio::piped()))?;
        let lines = child.take_output().context("take the program's output")?;
        let mut show = Progress::new(label);
        let mut outcome = None;
        for line in BufReader::new(lines).lines() {
            let line = line.context("read the program's output")?;
            match serde_json::from_str(&line).with_context(|| line.clone())? {
                Event::Start { total, resumed_at } => show.start(total, resumed_at)?,
                Event::At { bytes } => show.at(bytes)?,
                Event::Note { text } => show.note(&text)?,
                Event::Retry { resumed_at, why } => {
                    show.note(&format!("{why}; resuming at {}", BinaryBytes(resumed_at)))?;
                }
                Event::Unfit { text } => {
                    show.note(&format!(
                        "this pip is not known ({text}); it fetches itself"
                    ))?;
                    outcome = Some(Outcome::Unfit);
                }
                Event::Fail { kind, text } => bail!("{label}: {text}\n{}", kind.mend()),
                Event::Done => outcome = Some(Outcome::Done),
            }
            self.interrupt.check()?;
        }
        let status = child.wait(self.interrupt)?;
        show.end()?;
        outcome.with_context(|| format!("{label}: python3 ended with {status}"))
    }
}

impl Failure {
    /// Says what people can do about it.
    fn mend(&self) -> &'static str {
        match self {
            Self::Index | Self::Network => {
                "Check the network and pip's settings (`python3 -m pip config list`: index-url, \
                 proxy, cert), then run this again: it goes on where it stopped."
            }
            Self::Hash => {
                "The file was removed. Run this again; if it comes back, the index gives \
                 another file than PyPI does."
            }
            Self::Disk => {
                "See that .cache can be written to and has room, then run this again: it goes \
                 on where it stopped."
            }
            Self::Archive => "Remove .cache/wheels and run this again.",
        }
    }
}

/// Smaller things are done before anybody has read a line about them.
const WORTH_TELLING: u64 = 64 << 20;

/// A progress bar; plain lines where the output is not a terminal.
#[derive(Debug)]
struct Progress {
    label: String,
    bar: ProgressBar,
    told_tenth: u64,
}

impl Progress {
    fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            bar: ProgressBar::new(0),
            told_tenth: 0,
        }
    }

    fn start(&mut self, total: u64, resumed_at: u64) -> Result<()> {
        let template = "{prefix}  [{bar:30}] {binary_bytes} of {binary_total_bytes}, \
                        {binary_bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template).context("lay out the progress bar")?;
        self.bar.set_prefix(self.label.clone());
        self.bar.set_length(total);
        self.bar.set_position(resumed_at);
        self.bar.reset_eta();
        // Last, because it draws the bar.
        self.bar.set_style(style);
        self.bar.enable_steady_tick(Duration::from_millis(200));
        self.told_tenth = tenth(resumed_at, total);
        if resumed_at > 0 {
            let (from, total) = (BinaryBytes(resumed_at), BinaryBytes(total));
            self.note(&format!("resuming at {from} of {total}"))
        } else if self.bar.is_hidden() {
            self.note(&BinaryBytes(total).to_string())
        } else {
            Ok(())
        }
    }

    fn at(&mut self, bytes: u64) -> Result<()> {
        self.bar.set_position(bytes);
        let total = self.bar.length().unwrap_or_default();
        let tenth = tenth(bytes, total);
        if self.bar.is_hidden() && tenth > self.told_tenth && total >= WORTH_TELLING {
            self.told_tenth = tenth;
            self.note(&format!("{} of {}", BinaryBytes(bytes), BinaryBytes(total)))?;
        }
        Ok(())
    }

    fn note(&self, text: &str) -> Result<()> {
        let line = format!("{}: {text}", self.label);
        self.bar.suspend(|| say(format_args!("{line}")))
    }

    fn end(&self) -> Result<()> {
        let terminal = !self.bar.is_hidden();
        self.bar.finish_and_clear();
        if terminal {
            say(format_args!("{}: done", self.label))?;
        }
        Ok(())
    }
}

fn tenth(bytes: u64, total: u64) -> u64 {
    bytes
        .saturating_mul(10)
        .checked_div(total)
        .unwrap_or_default()
}
