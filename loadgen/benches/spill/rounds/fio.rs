//! fio: what the disk gives to a program that does nothing else.
//!
//! It registers its buffers where it may: else its passes, which are short, would begin with memory
//! that the kernel has not met before.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use forebay_loadgen::spill::Way;
use serde::Deserialize;

use super::{DEPTH, Sample};

pub(super) struct Fio {
    program: PathBuf,
    file: PathBuf,
    registered: bool,
}

#[derive(Deserialize)]
struct Output {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    error: i32,
    usr_cpu: f64,
    sys_cpu: f64,
    /// In milliseconds.
    job_runtime: f64,
    read: Traffic,
    write: Traffic,
}

#[derive(Deserialize)]
struct Traffic {
    io_bytes: f64,
    bw_bytes: f64,
}

impl Fio {
    /// Finds out whether `program` runs.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn find(program: &Path, dir: &Path) -> Result<Self> {
        let asked = Command::new(program)
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        let asked = asked.with_context(|| format!("start {}", program.display()))?;
        ensure!(
            asked.status.success(),
            "{} ended with {}",
            program.display(),
            asked.status
        );
        let mut fio = Self {
            program: program.to_owned(),
            file: dir.join("fio"),
            registered: true,
        };
        fio.registered = fio.pass(Way::Write, 1 << 20, 32 << 20).is_ok();
        Ok(fio)
    }

    /// Moves `total` bytes in blocks of `block`. Buffers are filled once, as the store's are.
    pub(super) fn pass(&self, way: Way, block: usize, total: u64) -> Result<Sample> {
        let mut fio = Command::new(&self.program);
        fio.args([
            "--name=forebay",
            "--ioengine=io_uring",
            "--direct=1",
            "--scramble_buffers=0",
        ]);
        fio.arg("--output-format=json")
            .arg(format!("--iodepth={DEPTH}"));
        fio.arg(format!("--rw={}", way.name()))
            .arg(format!("--bs={block}"));
        fio.arg(format!("--size={total}"))
            .arg(format!("--filename={}", self.file.display()));
        if self.registered {
            fio.args(["--fixedbufs=1", "--registerfiles=1"]);
        }
        let ended = fio.stdin(Stdio::null()).output().context("start fio")?;
        let told = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            ended.status.success(),
            "fio ended with {}: {}",
            ended.status,
            told.trim()
        );
        let output: Output = serde_json::from_slice(&ended.stdout).context("read what fio says")?;
        let job = output.jobs.first().context("fio tells of no job")?;
        ensure!(job.error == 0, "fio met error {}", job.error);
        let traffic = match way {
            Way::Write => &job.write,
            Way::Read => &job.read,
        };
        let cpu_s = (job.usr_cpu + job.sys_cpu) / 100.0 * job.job_runtime / 1e3;
        Ok(Sample {
            mib_per_s: traffic.bw_bytes / f64::from(1 << 20),
            cpu_s_per_gib: cpu_s * f64::from(1 << 30) / traffic.io_bytes,
        })
    }
}
