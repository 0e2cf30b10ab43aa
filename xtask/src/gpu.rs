//! `cargo xtask gpu`: packs what measures Forebay on a machine that has a GPU and PyTorch only.
//!
//! Owns `target/gpu`. The bundle holds stripped programs and scripts, no model: the programs write
//! those there, with the same weights everywhere.
//!
//! Invariant: folder and archive are below [`LIMIT`], and a program finds its libraries by
//! LD_LIBRARY_PATH before any path of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use indicatif::BinaryBytes;

use crate::{
    libtorch,
    process::{self, Interrupt},
    say,
    server::{self, Build},
    workspace::Workspace,
};

/// What the bundle may take, so that it can be carried.
const LIMIT: u64 = 60 << 20;
const NAME: &str = "forebay-gpu";
const PROGRAMS: [&str; 3] = ["forebay", "loadgen", "make-models"];
/// The exporter of `.pt2` packages.
const EXPORTER: &str = "docs/export/export_aoti.py";

/// Packs the bundle.
pub(crate) fn command(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    libtorch::ensure(workspace, interrupt)?;
    say(format_args!("\n== build, in release"))?;
    let what = Build {
        release: true,
        packages: &["forebay-server", "forebay-loadgen", "forebay-tests"],
        bins: &PROGRAMS,
        examples: &[],
    };
    let programs = server::build(workspace, &what, interrupt)?;
    let target = programs.reports("gpu")?;
    let folder = target.join(NAME);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    let programs = PROGRAMS.map(|name| programs.path(name));
    pack(workspace.root(), &programs, &folder)?;
    fs::write(folder.join("VERSION"), version(workspace)).context("write VERSION")?;
    let archive = target.join(format!("{NAME}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&archive).arg("-C").arg(&target);
    process::run(tar.arg(NAME), interrupt)?;
    let (unpacked, packed) = (size(&folder)?, size(&archive)?);
    check_size(unpacked.max(packed))?;
    say(format_args!(
        "\n{} ({}), and {} ({}).\n\
         On a machine with a GPU and PyTorch {}: python3 {NAME}/run.py --out results",
        workspace.shown(&folder),
        BinaryBytes(unpacked),
        workspace.shown(&archive),
        BinaryBytes(packed),
        libtorch::VERSION,
    ))
}

/// Puts programs and scripts into `folder`.
fn pack(root: &Path, programs: &[PathBuf], folder: &Path) -> Result<()> {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("make {}", bin.display()))?;
    for program in programs {
        let name = program.file_name().context("name a program")?;
        check_library_path(program)?;
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(bin.join(name)).arg(program);
        succeed(&mut strip)?;
    }
    copy_scripts(&root.join("xtask/gpu"), folder)?;
    copy(&root.join(EXPORTER), &folder.join("export_aoti.py"))
}

/// Copies Python's sources, and neither their tests nor what Python made of them.
fn copy_scripts(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let path = entry.context("read an entry")?.path();
        let name = path.file_name().context("name a script")?;
        let target = to.join(name);
        if name.as_encoded_bytes().starts_with(b"test_") {
            continue;
        }
        if path.is_dir() && !path.ends_with("__pycache__") {
            copy_scripts(&path, &target)?;
        } else if path.extension().is_some_and(|extension| extension == "py") {
            copy(&path, &target)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

/// Refuses a program whose own path to its libraries goes before LD_LIBRARY_PATH: that is what an
/// RPATH does, and a RUNPATH does not.
fn check_library_path(program: &Path) -> Result<()> {
    let mut readelf = Command::new("readelf");
    let told = succeed(readelf.arg("-d").arg(program))?;
    ensure!(
        !told.contains("(RPATH)"),
        "{} has an RPATH, which goes before LD_LIBRARY_PATH; link it with --enable-new-dtags",
        program.display()
    );
    Ok(())
}

fn check_size(bytes: u64) -> Result<()> {
    ensure!(
        bytes < LIMIT,
        "the bundle takes {}, and may take {}",
        BinaryBytes(bytes),
        BinaryBytes(LIMIT)
    );
    Ok(())
}

/// Returns the bytes of a file, or of all files of a folder.
fn size(path: &Path) -> Result<u64> {
    let doing = || format!("measure {}", path.display());
    let metadata = fs::metadata(path).with_context(doing)?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path).with_context(doing)? {
        bytes += size(&entry.with_context(doing)?.path())?;
    }
    Ok(bytes)
}

/// Says what was packed.
fn version(workspace: &Workspace) -> String {
    let mut git = Command::new("git");
    git.current_dir(workspace.root())
        .args(["describe", "--always", "--dirty"]);
    // A copy of the sources without their history is packed all the same.
    let commit = succeed(&mut git).unwrap_or_else(|_| "unknown".to_owned());
    format!(
        "forebay {}, commit {}, built against libtorch {}\n",
        env!("CARGO_PKG_VERSION"),
        commit.trim(),
        libtorch::VERSION
    )
}

fn succeed(command: &mut Command) -> Result<String> {
    let name = process::shown(command);
    let output = process::capture(command)?;
    ensure!(
        output.status.success(),
        "`{name}` ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Workspace::find().root().to_owned()
    }

    /// A program that is there: this one.
    fn programs(folder: &Path) -> Vec<PathBuf> {
        let this = std::env::current_exe().unwrap();
        let made = PROGRAMS.map(|name| folder.join(name));
        made.iter().for_each(|path| {
            fs::copy(&this, path).unwrap();
        });
        made.to_vec()
    }

    #[test]
    fn the_bundle_holds_stripped_programs_and_every_script_and_nothing_else() {
        let made = tempfile::tempdir().unwrap();
        let bundle = made.path().join(NAME);
        let programs = programs(made.path());
        pack(&root(), &programs, &bundle).unwrap();
        for program in &programs {
            let stripped = bundle.join("bin").join(program.file_name().unwrap());
            assert!(size(&stripped).unwrap() < size(program).unwrap());
        }
        let list = |folder: &str| {
            let entries = fs::read_dir(bundle.join(folder)).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.collect();
            names.sort_unstable();
            names
        };
        let expected = ["bin", "export_aoti.py", "forebay_gpu", "run.py"];
        assert_eq!(list("."), expected);
        let exporter = fs::read(bundle.join("export_aoti.py")).unwrap();
        assert_eq!(exporter, fs::read(root().join(EXPORTER)).unwrap());
        assert_eq!(
            list("forebay_gpu"),
            [
                "__init__.py",
                "bare.py",
                "phases.py",
                "process.py",
                "record.py",
                "resnet18.py",
                "served.py",
                "table.py"
            ]
        );
    }

    #[test]
    fn a_bundle_may_not_be_too_large_to_carry() {
        check_size(LIMIT - 1).unwrap();
        let error = check_size(LIMIT).unwrap_err().to_string();
        assert_eq!(error, "the bundle takes 60.00 MiB, and may take 60.00 MiB");
    }

    #[test]
    fn a_folder_is_as_large_as_its_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), [0; 700]).unwrap();
        fs::write(folder.path().join("c"), [0; 34]).unwrap();
        assert_eq!(size(folder.path()).unwrap(), 734);
    }

    #[test]
    fn the_scripts_verdicts_claim_no_more_than_was_measured() {
        let mut python = Command::new("python3");
        python.args(["-B", "-m", "unittest", "-v", "test_results"]);
        python.current_dir(root().join("xtask/gpu"));
        let output = process::capture(&mut python).unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && told.contains("... ok"), "{told}");
    }

    /// The script's own account of a run in which nothing could run, without any server.
    #[test]
    fn the_script_writes_its_results_whatever_fails() {
        let out = tempfile::tempdir().unwrap();
        let mut python = Command::new("python3");
        python
            .arg("-B")
            .arg(root().join("xtask/gpu/run.py"))
            .args(["--device", "cpu", "--quick", "--lib", "/nonexistent"])
            .arg("--out")
            .arg(out.path());
        process::capture(&mut python).unwrap();
        let results = fs::read(out.path().join("results.json")).unwrap();
        let results: serde_json::Value = serde_json::from_slice(&results).unwrap();
        assert_eq!(results["schema"], "forebay-gpu/1");
        let phases = results["phases"].as_object().unwrap();
        assert_eq!(phases.len(), 9);
        for (name, phase) in phases {
            assert!(phase["status"] != "ok" && phase["reason"] != "", "{name}");
        }
        let table = fs::read_to_string(out.path().join("table.md")).unwrap();
        assert!(table.contains("not measured"), "{table}");
        assert!(!table.contains("| met |"), "{table}");
    }
}
