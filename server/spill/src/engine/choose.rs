//! Which engine a directory gets.
//!
//! A container often forbids io_uring while the kernel has it, so it is tried, never looked up: a
//! real write and read in the very directory.
//!
//! Invariant: only what says that io_uring is not to be had leads to the other engine; a disk that
//! fails is an error, whichever engine found it.

use std::{fmt, fs::File, io, str::FromStr, sync::Arc};

use rustix::io::Errno;

use super::{Direction, Engine, Op, psync::Psync, uring::Uring};
use crate::{
    memory::{ALIGNMENT, Piece, Pool},
    segment::Dir,
};

#[cfg(test)]
mod tests;

/// How many operations are in flight where nobody says.
pub const DEFAULT_DEPTH: usize = 32;

/// Which engine is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// io_uring where it works, else plain reads and writes.
    #[default]
    Auto,
    /// io_uring, or none.
    IoUring,
    /// Plain reads and writes on a few threads.
    Psync,
}

/// An engine that has proven to work.
#[derive(Debug)]
pub struct Opened {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// Why it is not io_uring, where that was wanted most.
    pub why: Option<String>,
}

/// What keeps a directory from having an engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine that was asked for is not to be had.
    #[error(
        "io_uring is not to be had here: allow it (seccomp, kernel.io_uring_disabled, memory), or choose auto or psync"
    )]
    Unavailable(#[source] io::Error),
    /// No file could be made to try the engine on.
    #[error("cannot make a file to try the disk with")]
    File(#[source] io::Error),
    /// The engine is there, and the disk failed under it.
    #[error("the {engine} engine cannot write and read back {ALIGNMENT} bytes: the disk must work")]
    Probe {
        /// The engine's name.
        engine: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The engine cannot be set up, for want of threads or memory.
    #[error("cannot set the {engine} engine up")]
    Setup {
        /// The engine's name.
        engine: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A choice that does not exist.
    #[error("{0:?} is no engine: choose auto, io_uring or psync")]
    Unknown(String),
}

/// Opens an engine for files of `dir` with `depth` operations in flight. Blocks.
///
/// # Errors
/// The disk fails a write or a read of a few bytes, or the engine that was chosen cannot be had.
pub fn open(dir: &Dir, choice: Choice, depth: usize) -> Result<Opened, Error> {
    open_with(dir, choice, depth, |depth| Ok(Box::new(Uring::new(depth)?)))
}

type Built = io::Result<Box<dyn Engine>>;

fn open_with(
    dir: &Dir,
    choice: Choice,
    depth: usize,
    ring: impl Fn(usize) -> Built,
) -> Result<Opened, Error> {
    let file = dir.create(ALIGNMENT as u64).map_err(Error::File)?;
    if choice == Choice::Psync {
        let engine = psync(&file, depth)?;
        return Ok(Opened { engine, why: None });
    }
    match uring(&file, depth, ring) {
        Ok(engine) => Ok(Opened { engine, why: None }),
        Err(Error::Unavailable(source)) if choice == Choice::Auto => {
            let engine = psync(&file, depth)?;
            let why = Some(format!("io_uring is not to be had: {source}"));
            Ok(Opened { engine, why })
        }
        Err(error) => Err(error),
    }
}

/// The ring that is tried is not the ring that is kept: who tries a ring is the only one to drive it.
fn uring(
    file: &Arc<File>,
    depth: usize,
    ring: impl Fn(usize) -> Built,
) -> Result<Box<dyn Engine>, Error> {
    let engine = "io_uring";
    let setup = |source: io::Error| match Errno::from_io_error(&source) {
        Some(Errno::NOMEM) => Error::Unavailable(source),
        Some(errno) if forbids(errno) => Error::Unavailable(source),
        _ => Error::Setup { engine, source },
    };
    let mut trial = ring(1).map_err(setup)?;
    probe(&mut *trial, file).map_err(|source| match Errno::from_io_error(&source) {
        Some(errno) if forbids(errno) => Error::Unavailable(source),
        _ => Error::Probe { engine, source },
    })?;
    drop(trial);
    ring(depth).map_err(setup)
}

fn psync(file: &Arc<File>, depth: usize) -> Result<Box<dyn Engine>, Error> {
    let engine = "psync";
    let setup = |source| Error::Setup { engine, source };
    let mut trial = Psync::new(1).map_err(setup)?;
    probe(&mut trial, file).map_err(|source| Error::Probe { engine, source })?;
    Ok(Box::new(Psync::new(depth).map_err(setup)?))
}

/// Whether an error says that the kernel has no io_uring or does not allow it.
fn forbids(errno: Errno) -> bool {
    [Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::OPNOTSUPP].contains(&errno)
}

/// Writes a few bytes and reads them back.
fn probe(engine: &mut dyn Engine, file: &Arc<File>) -> io::Result<()> {
    let pattern = |index: usize| index.to_le_bytes()[0] ^ 0x5a;
    let mut pieces = Pool::new(0).lease(ALIGNMENT).into_pieces(ALIGNMENT);
    let mut memory = pieces.pop().expect("a page is one piece");
    for (index, byte) in memory.iter_mut().enumerate() {
        *byte = pattern(index);
    }
    let id = engine.add_file(Arc::clone(file))?;
    let mut memory = transfer(engine, (id, Direction::Write), memory)?;
    memory.fill(0);
    let memory = transfer(engine, (id, Direction::Read), memory)?;
    if (memory.iter().enumerate()).all(|(index, byte)| *byte == pattern(index)) {
        Ok(())
    } else {
        let text = "what was read is not what was written";
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

fn transfer(
    engine: &mut dyn Engine,
    (file, direction): (super::FileId, Direction),
    memory: Piece,
) -> io::Result<Piece> {
    let (id, offset, skip) = (0, 0, 0);
    engine.push(Op {
        id,
        direction,
        file,
        offset,
        memory,
        skip,
    });
    let mut done = Vec::new();
    while done.is_empty() {
        engine.wait(None, &mut done);
    }
    let done = done.pop().expect("it is not empty");
    match done.result? {
        ALIGNMENT => Ok(done.op.memory),
        bytes => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{bytes} of {ALIGNMENT} bytes went"),
        )),
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::IoUring),
            "psync" => Ok(Self::Psync),
            _ => Err(Error::Unknown(name.to_owned())),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Psync => "psync",
        })
    }
}
