//! A store on directories.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::Config,
    engine::choose::{self, DEFAULT_DEPTH},
    error::OpenError,
    memory::Pool,
    segment,
};

use super::{Backend, Files, Store};

impl Store {
    /// Opens a store on its directories; buffers that come back are leased from `pool`. Blocks until
    /// each disk has proven to work.
    ///
    /// # Errors
    /// The configuration is out of range, or a directory or the engine asked for cannot be used.
    pub fn open(config: Config, pool: Pool) -> Result<Self, OpenError> {
        config.validate()?;
        let open = |dir: &PathBuf| backend(dir, &config);
        let backends: Result<Vec<Backend>, OpenError> = config.dirs.iter().map(open).collect();
        Self::start(config.clone(), pool, backends?)
    }
}

fn backend(path: &Path, config: &Config) -> Result<Backend, OpenError> {
    let path: Arc<Path> = path.into();
    let dir = segment::Dir::open(&path, config.allow_tmpfs);
    let dir = dir.map_err(|source| unusable(&path, source))?;
    let opened = choose::open(&dir, config.engine, DEFAULT_DEPTH);
    let opened = opened.map_err(|source| unusable(&path, source))?;
    let (engine, direct) = (opened.engine.name(), dir.direct());
    tracing::info!(dir = %path.display(), engine, direct, why = opened.why, "spill directory is open");
    Ok(Backend {
        path,
        engine: opened.engine,
        files: Box::new(dir),
    })
}

fn unusable(dir: &Arc<Path>, source: impl std::error::Error + Send + Sync + 'static) -> OpenError {
    OpenError::Dir {
        dir: Arc::clone(dir),
        source: Box::new(source),
    }
}

impl Files for segment::Dir {
    fn create(&mut self, bytes: u64) -> io::Result<Arc<File>> {
        segment::Dir::create(self, bytes)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        segment::Dir::free_bytes(self)
    }
}
