//! Triton's `perf_analyzer`: the load generator that its users measure with.
//!
//! Its wheel is built for glibc 2.38. On an older system it runs with the C library of Debian
//! trixie, unpacked into a folder of its own and named to that library's loader; nothing outside
//! `.cache/perf_analyzer` changes, and no rights are needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    debian,
    fetch::{Fetcher, Wheel},
    process::Interrupt,
    workspace::Workspace,
};

const WHEEL: Wheel = Wheel {
    package: "perf-analyzer",
    version: "2.60.0",
    file: "perf_analyzer-2.60.0-py3-none-manylinux_2_38_x86_64.whl",
    bytes: 7_182_673,
    sha256: "23ef56b107ae9233e5cf09fbdf508dd9b936a52f1bae2f63f53c8117087b3f25",
    platforms: &["manylinux_2_38_x86_64"],
};

/// What the binary is linked to.
const LIBRARIES: [&str; 6] = [
    "libc6",
    "libstdc++6",
    "libgcc-s1",
    "libssl3t64",
    "zlib1g",
    "libzstd1",
];

/// A run that takes longer hangs; it waits for ever for answers that were lost.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// One run of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// The model.
    pub(super) model: &'static str,
    /// How it calls: `unary`, `async` or `streaming`.
    pub(super) mode: &'static str,
    /// Requests in flight.
    pub(super) concurrency: u8,
}

const fn load(model: &'static str, mode: &'static str, concurrency: u8) -> Load {
    Load {
        model,
        mode,
        concurrency,
    }
}

/// Every way of calling, without and with a dynamic batcher.
pub(super) const LOADS: [Load; 9] = [
    load("simple", "unary", 1),
    load("simple", "unary", 16),
    load("simple", "async", 1),
    load("simple", "async", 16),
    load("simple", "streaming", 1),
    load("simple", "streaming", 16),
    load("mlp", "unary", 16),
    load("mlp", "async", 16),
    load("mlp", "streaming", 16),
];

impl Load {
    /// Returns the name of its log, without an ending.
    pub(super) fn file_name(&self) -> String {
        format!(
            "perf_analyzer-{}-{}-{}",
            self.model, self.mode, self.concurrency
        )
    }
}

/// A `perf_analyzer` that starts on this machine.
#[derive(Debug)]
pub(super) struct PerfAnalyzer {
    binary: PathBuf,
    libraries: Option<PathBuf>,
}

impl PerfAnalyzer {
    /// Gets it, and the libraries that it lacks here.
    pub(super) fn prepare(workspace: &Workspace, interrupt: &Interrupt) -> Result<Self> {
        let folder = workspace.cache("perf_analyzer");
        let binary = folder.join("perf_analyzer-2.60.0");
        if !binary.exists() {
            get(&binary, workspace, interrupt)?;
        }
        let mut found = Self {
            binary,
            libraries: None,
        };
        if !found.starts() {
            let libraries = folder.join("trixie");
            debian::unpack("trixie", &LIBRARIES, &libraries, interrupt).context(
                "get the C library of Debian trixie, which perf_analyzer needs on this system",
            )?;
            found.libraries = Some(libraries);
            anyhow::ensure!(
                found.starts(),
                "perf_analyzer does not start; remove {} and run this again",
                workspace.shown(&folder)
            );
        }
        Ok(found)
    }

    /// Returns the command of one run against the server at `address`.
    pub(super) fn command(&self, load: Load, address: &str) -> Command {
        let mut command = self.program();
        command.args(["-m", load.model, "-i", "grpc", "-u", address]);
        command.args(["--concurrency-range", &load.concurrency.to_string()]);
        // Whether it works is asked here, not how fast: short windows, and any spread will do.
        command.args(["--measurement-mode", "count_windows"]);
        command.args([
            "--measurement-request-count",
            "64",
            "--stability-percentage",
            "999",
        ]);
        match load.mode {
            "async" => command.arg("--async"),
            "streaming" => command.arg("--streaming"),
            _ => &mut command,
        };
        command
    }

    fn program(&self) -> Command {
        let Some(libraries) = &self.libraries else {
            return Command::new(&self.binary);
        };
        let mut command = Command::new(libraries.join("usr/lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(libraries.join("usr/lib/x86_64-linux-gnu"));
        command.arg(&self.binary);
        command
    }

    fn starts(&self) -> bool {
        let mut version = self.program();
        version.arg("--version").stdin(Stdio::null());
        version.output().is_ok_and(|output| output.status.success())
    }
}

/// Gets the binary out of the wheel.
fn get(binary: &Path, workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let folder = binary.parent().context("the binary has a folder")?;
    let fetcher = Fetcher::new(workspace, interrupt)?;
    let wheel = fetcher.fetch(&WHEEL)?;
    fetcher.unpack(
        &wheel,
        folder,
        &["perf_analyzer/bin/perf_analyzer=unpacked"],
    )?;
    let unpacked = folder.join("unpacked");
    fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755))
        .and_then(|()| fs::rename(&unpacked, binary))
        .with_context(|| format!("make {}", binary.display()))?;
    fs::remove_file(&wheel).context("remove a wheel")
}

/// Returns the part of its output that people read, where that holds the server's breakdown.
pub(super) fn table(output: &str) -> Option<String> {
    let start = output.find("Request concurrency:")?;
    let lines: Vec<_> = output[start..].lines().map(str::trim_end).collect();
    let end = lines
        .iter()
        .position(|line| line.starts_with("Inferences/Second"));
    let table = lines[..end.unwrap_or(lines.len())].join("\n");
    let server = &table[table.find("Server:")?..];
    let told = server.contains("queue ") && server.contains("compute infer ");
    told.then(|| table.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "*** Measurement Settings ***\n\
        Request concurrency: 1\n  Client: \n    Throughput: 900.1 infer/sec\n  Server: \n    \
        Avg request latency: 90 usec (overhead 8 usec + queue 2 usec + compute input 1 usec + \
        compute infer 70 usec + compute output 9 usec)\n\n\
        Inferences/Second vs. Client Average Batch Latency\nConcurrency: 1\n";

    #[test]
    fn the_table_is_what_lies_between_the_settings_and_the_summary() {
        let table = table(OUTPUT).unwrap();
        assert!(table.starts_with("Request concurrency: 1"), "{table}");
        assert!(table.ends_with("9 usec)"), "{table}");
    }

    #[test]
    fn output_without_the_servers_breakdown_has_no_table() {
        assert_eq!(table(&OUTPUT.replace("queue 2", "other 2")), None);
        assert_eq!(table(&OUTPUT.replace("Server:", "Client:")), None);
        assert_eq!(table(""), None);
    }
}
