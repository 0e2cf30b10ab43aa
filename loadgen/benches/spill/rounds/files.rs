//! The plain way with small tensors: a file for each, opened, moved and closed in turn.
//!
//! The files were written before, which spares this way the making of a file for each new tensor.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use forebay_loadgen::{host::CpuTime, spill::Way};
use forebay_spill::memory::{HostBuf, Pool};
use rustix::fs::OFlags;

use super::Sample;

const COUNT: usize = 2048;

pub(super) struct Files {
    paths: Vec<PathBuf>,
    buffer: HostBuf,
}

impl Files {
    pub(super) fn make(dir: &Path, tensor_bytes: usize) -> Result<Self> {
        let mut buffer = Pool::new(0).lease(tensor_bytes.next_multiple_of(4096));
        buffer.fill(0x5a);
        let paths = (0..COUNT)
            .map(|n| dir.join(format!("tensor-{n}")))
            .collect();
        Ok(Self { paths, buffer })
    }

    pub(super) fn pass(&mut self, way: Way) -> Result<Sample> {
        let Self { paths, buffer } = self;
        let (cpu, begin) = (CpuTime::now(), Instant::now());
        for path in &*paths {
            let moved = match way {
                Way::Write => open(path, way)?.write_at(buffer, 0),
                Way::Read => open(path, way)?.read_at(buffer, 0),
            };
            let moved = moved.with_context(|| format!("{} {}", way.name(), path.display()))?;
            ensure!(moved == buffer.len(), "a transfer was short");
        }
        let took = begin.elapsed().as_secs_f64();
        let bytes = (paths.len() * buffer.len()) as f64;
        let cpu = cpu
            .zip(CpuTime::now())
            .map(|(before, after)| after.since(before));
        let cpu_s = cpu.map_or(f64::NAN, |cpu| cpu.running.as_secs_f64());
        Ok(Sample {
            mib_per_s: bytes / f64::from(1 << 20) / took,
            cpu_s_per_gib: cpu_s * f64::from(1 << 30) / bytes,
        })
    }
}

fn open(path: &Path, way: Way) -> Result<File> {
    let direct = OFlags::DIRECT.bits().cast_signed();
    let mut options = OpenOptions::new();
    match way {
        Way::Write => options.write(true).create(true),
        Way::Read => options.read(true),
    };
    let file = options.custom_flags(direct).open(path);
    file.with_context(|| format!("open {}", path.display()))
}
