//! The store's own engine on one file, without the store: what is compared to where there is no fio.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use forebay_loadgen::{host::CpuTime, spill::Way};
use forebay_spill::{
    Choice,
    engine::{Direction, Engine, FileId, Op, choose},
    memory::Pool,
    segment::Dir,
};

use super::{DEPTH, Sample};

pub(super) struct Raw {
    engine: Box<dyn Engine>,
    file: FileId,
    pool: Pool,
}

impl Raw {
    pub(super) fn open(dir: &Path, bytes: u64) -> Result<Self> {
        let dir = Dir::open(dir, false).context("open the folder")?;
        let mut engine = choose::open(&dir, Choice::Auto, DEPTH)
            .context("open an engine")?
            .engine;
        let file = dir.create(bytes).context("make a file")?;
        Ok(Self {
            file: engine.add_file(file).context("add the file")?,
            engine,
            pool: Pool::new((2 * DEPTH) << 20),
        })
    }

    /// Moves `total` bytes in blocks of `block`.
    pub(super) fn pass(&mut self, way: Way, block: usize, total: u64) -> Result<Sample> {
        let direction = match way {
            Way::Write => Direction::Write,
            Way::Read => Direction::Read,
        };
        let mut buffer = self.pool.lease(block * DEPTH);
        buffer.fill(0x5a);
        let mut idle = buffer.into_pieces(block);
        let mut offsets = (0..total).step_by(block);
        let (mut done, mut in_flight) = (Vec::new(), 0_usize);
        let (cpu, begin) = (CpuTime::now(), Instant::now());
        loop {
            while !idle.is_empty()
                && let Some(offset) = offsets.next()
                && let Some(memory) = idle.pop()
            {
                let (file, skip) = (self.file, 0);
                self.engine.push(Op {
                    id: offset,
                    direction,
                    file,
                    offset,
                    memory,
                    skip,
                });
                in_flight += 1;
            }
            if in_flight == 0 {
                break;
            }
            self.engine.wait(None, &mut done);
            for done in done.drain(..) {
                ensure!(done.result? == block, "a transfer was short");
                idle.push(done.op.memory);
                in_flight -= 1;
            }
        }
        let took = begin.elapsed().as_secs_f64();
        let cpu = cpu
            .zip(CpuTime::now())
            .map(|(before, after)| after.since(before));
        let cpu_s = cpu.map_or(f64::NAN, |cpu| cpu.running.as_secs_f64());
        Ok(Sample {
            mib_per_s: total as f64 / f64::from(1 << 20) / took,
            cpu_s_per_gib: cpu_s * f64::from(1 << 30) / total as f64,
        })
    }
}
