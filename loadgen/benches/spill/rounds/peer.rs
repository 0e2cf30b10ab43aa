//! TensorNVMe, the library that is nearest in purpose, in a Python process of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result};
use forebay_loadgen::spill::{Load, Way};

use super::Sample;

const PROGRAM: &str = include_str!("tensornvme.py");

pub(super) struct Peer {
    child: Child,
    /// Taken before the child is waited for, which ends with its input.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it. What it lacks is told on standard error, and by the first pass.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        let folder = dir.join("tensornvme");
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        let mut python = Command::new("python3");
        python.args(["-c", PROGRAM]).arg(&folder);
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().context("start python3")?;
        let answers = child.stdout.take().context("take what it prints")?;
        Ok(Self {
            orders: child.stdin.take(),
            child,
            answers: BufReader::new(answers),
        })
    }

    pub(super) fn pass(&mut self, way: Way, load: &Load) -> Result<Sample> {
        let orders = self.orders.as_mut().context("it takes orders")?;
        writeln!(
            orders,
            "{} {} {}",
            way.name(),
            load.tensor_bytes,
            load.count
        )
        .context("tell TensorNVMe what to do")?;
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .context("read what it took")?;
        let seconds = |text: &str| text.parse::<f64>().context("TensorNVMe has ended early");
        let (took, cpu) = line
            .trim()
            .split_once(' ')
            .context("TensorNVMe has ended early")?;
        let (took_s, cpu_s, bytes) = (seconds(took)?, seconds(cpu)?, load.bytes() as f64);
        Ok(Sample {
            mib_per_s: bytes / f64::from(1 << 20) / took_s,
            cpu_s_per_gib: cpu_s * f64::from(1 << 30) / bytes,
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.orders.take();
        // It removes its file as it ends.
        let _ = self.child.wait();
    }
}
