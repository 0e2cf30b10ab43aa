//! The store on each engine, with an engine around it that fails as told.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::{Backend, Files, Store, blocking::block_on};
use crate::{
    config::Config,
    engine::{
        Direction,
        choose::{self, Choice},
        fault::{Control, Faulty, plan},
    },
    memory::{HostBuf, Pool},
    segment,
};

/// Makes a test of each function, on each engine.
macro_rules! on_each_engine {
    ($($test:ident),* $(,)?) => {
        mod uring {
            $(#[test] fn $test() { super::$test(crate::engine::choose::Choice::IoUring); })*
        }
        mod psync {
            $(#[test] fn $test() { super::$test(crate::engine::choose::Choice::Psync); })*
        }
    };
}

mod broken;
mod ends;
mod faults;
mod integrity;
mod never;
mod oracle;
mod queue;
mod regressions;
mod shared;
mod spoilt;

/// A store on directories of its own.
struct Rig {
    store: Store,
    pool: Pool,
    /// Tell each directory's engine to fail.
    controls: Vec<Control>,
    /// All segments, in the order in which they were made.
    segments: Arc<Mutex<Vec<Arc<File>>>>,
    _dirs: Vec<tempfile::TempDir>,
}

/// Makes segments as the real one does, until `left` are made.
struct Counted {
    inner: segment::Dir,
    left: usize,
    made: Arc<Mutex<Vec<Arc<File>>>>,
}

impl Files for Counted {
    fn create(&mut self, bytes: u64) -> io::Result<Arc<File>> {
        self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        let file = self.inner.create(bytes)?;
        self.made.lock().unwrap().push(Arc::clone(&file));
        Ok(file)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}

impl Rig {
    fn new(choice: Choice) -> Self {
        Self::with(choice, 1, usize::MAX, |_| ())
    }

    /// `segments` is how many each directory has room for.
    fn with(
        choice: Choice,
        dirs: usize,
        segments: usize,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config {
            capacity_bytes: 256 << 20,
            segment_bytes: 32 << 20,
            write_queue_bytes: 1 << 30,
            min_free_bytes: 0,
            ..Config::default()
        };
        change(&mut config);
        let made: Arc<Mutex<Vec<Arc<File>>>> = Arc::default();
        let dirs: Vec<_> = (0..dirs).map(|_| tempfile::tempdir().unwrap()).collect();
        let (backends, controls) = dirs
            .iter()
            .map(|dir| {
                let path: Arc<Path> = dir.path().into();
                let inner = segment::Dir::open(&path, true).unwrap();
                let engine = choose::open(&inner, choice, 32).unwrap().engine;
                let (engine, control) = Faulty::new(engine, plan::pass(), Arc::new(Instant::now));
                let files = Box::new(Counted {
                    inner,
                    left: segments,
                    made: Arc::clone(&made),
                });
                let engine = Box::new(engine);
                let backend = Backend {
                    path,
                    engine,
                    files,
                };
                (backend, control)
            })
            .unzip();
        let pool = Pool::new(64 << 20);
        Self {
            store: Store::start(config, pool.clone(), backends).unwrap(),
            pool,
            controls,
            segments: made,
            _dirs: dirs,
        }
    }

    /// Leases a buffer and fills it.
    fn buffer(&self, bytes: &[u8]) -> HostBuf {
        let mut buffer = self.pool.lease(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }

    /// Ends the store; nothing may be left.
    fn finish(self) {
        eventually(|| self.store.stats().used_bytes == 0);
        let stats = self.store.stats();
        assert_eq!((stats.parked, stats.queued_items), (0, 0));
        drop(self.store);
        assert_eq!(self.pool.usage().leased_bytes, 0);
    }

    /// Reads or writes a block of the first segment behind the store's back.
    fn on_disk(&self, direction: Direction, offset: u64, bytes: &mut [u8]) {
        let file = Arc::clone(&self.segments.lock().unwrap()[0]);
        let mut aligned = Pool::new(0).lease(bytes.len());
        match direction {
            Direction::Read => {
                file.read_exact_at(&mut aligned, offset).unwrap();
                bytes.copy_from_slice(&aligned);
            }
            Direction::Write => {
                aligned.copy_from_slice(bytes);
                file.write_all_at(&aligned, offset).unwrap();
            }
        }
    }
}

/// Waits for what another thread brings about.
fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it does not come about");
        thread::yield_now();
    }
}

/// Makes bytes that look like chance: quick also where nothing is optimised.
fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; len];
    for word in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
    bytes
}
