//! What every engine owes its caller, on a real directory.

use std::{
    collections::HashMap,
    fs::File,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    engine::{psync::Psync, uring::Uring},
    memory::{ALIGNMENT, Pool},
    segment::Dir,
};

mod behaviour;
mod limits;

/// What the tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Uring,
    Psync,
    /// Psync on a file that goes through the page cache.
    Buffered,
}

/// An engine with one file, and the memory for its operations.
pub(crate) struct Rig {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) file: FileId,
    pub(crate) pool: Pool,
    /// The same file, for looking behind the engine's back.
    pub(crate) raw: Arc<File>,
}

pub(crate) const DEPTH: usize = 8;

impl Kind {
    pub(crate) fn engine(self) -> Box<dyn Engine> {
        match self {
            Self::Uring => Box::new(Uring::new(DEPTH).expect("the tests need io_uring: allow it")),
            Self::Psync | Self::Buffered => Box::new(Psync::new(DEPTH).expect("threads are there")),
        }
    }

    /// Makes an engine with a file of `bytes` bytes.
    pub(crate) fn rig(self, bytes: u64) -> Rig {
        self.rig_around(self.engine(), bytes)
    }

    pub(crate) fn rig_around(self, mut engine: Box<dyn Engine>, bytes: u64) -> Rig {
        let raw = match self {
            Self::Buffered => {
                let file = tempfile::tempfile().expect("a file can be made");
                file.set_len(bytes).expect("it can grow");
                Arc::new(file)
            }
            Self::Uring | Self::Psync => {
                let home = tempfile::tempdir().expect("a directory can be made");
                let dir = Dir::open(home.path(), true).expect("it can be spilled to");
                assert!(
                    dir.direct(),
                    "{home:?} has no O_DIRECT: set TMPDIR to a disk"
                );
                dir.create(bytes).expect("there is room")
            }
        };
        let file = engine.add_file(Arc::clone(&raw)).expect("it has room");
        let pool = Pool::new(0);
        Rig {
            engine,
            file,
            pool,
            raw,
        }
    }
}

impl Rig {
    pub(crate) fn piece(&self, bytes: usize, fill: u8) -> Piece {
        let mut piece = (self.pool.lease(bytes).into_pieces(bytes)).remove(0);
        piece.fill(fill);
        piece
    }

    pub(crate) fn op(&self, id: u64, direction: Direction, offset: u64, memory: Piece) -> Op {
        Op {
            id,
            direction,
            file: self.file,
            offset,
            memory,
            skip: 0,
        }
    }

    /// Waits until `count` operations have come back.
    pub(crate) fn collect(&mut self, count: usize) -> HashMap<u64, Done> {
        self.in_order(count)
            .into_iter()
            .map(|done| (done.op.id, done))
            .collect()
    }

    pub(crate) fn in_order(&mut self, count: usize) -> Vec<Done> {
        let mut done = Vec::new();
        let begin = Instant::now();
        while done.len() < count {
            assert!(begin.elapsed() < PATIENCE, "{} of {count}", done.len());
            self.engine.wait(Some(PATIENCE), &mut done);
        }
        done
    }

    /// Does one operation.
    pub(crate) fn transfer(&mut self, direction: Direction, offset: u64, memory: Piece) -> Done {
        let op = self.op(7, direction, offset, memory);
        self.engine.push(op);
        self.in_order(1).remove(0)
    }
}

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Makes each function a test of each engine.
macro_rules! on_every_engine {
    ($($test:ident),* $(,)?) => {
        mod uring {
            $(#[test] fn $test() { super::$test(super::Kind::Uring); })*
        }
        mod psync {
            $(#[test] fn $test() { super::$test(super::Kind::Psync); })*
        }
        mod buffered {
            $(#[test] fn $test() { super::$test(super::Kind::Buffered); })*
        }
    };
}
pub(crate) use on_every_engine;
