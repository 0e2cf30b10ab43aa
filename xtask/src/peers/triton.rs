//! Triton with its Python backend, as far as the registries have it: the server that the wheel of
//! pytriton carries, started by itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Setup,
    contestant::Recipe,
    python_peer::{PythonPeers, text},
    repository,
};
use crate::{
    fetch::{Fetcher, Wheel},
    libtorch,
    process::{self, Interrupt},
};

const WHEEL: Wheel = Wheel {
    package: "nvidia-pytriton",
    version: "0.7.0",
    file: "nvidia_pytriton-0.7.0-py3-none-manylinux_2_35_x86_64.whl",
    bytes: 55_369_373,
    sha256: "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df",
    platforms: &["manylinux_2_35_x86_64"],
};

/// What of the wheel goes where. The stub that runs models is linked to one version of Python.
const RULES: [&str; 4] = [
    "pytriton/tritonserver/bin/tritonserver=bin/tritonserver",
    "pytriton/tritonserver/backends/python/=backends/python/",
    "pytriton/tritonserver/python_backend_stubs/3.11/=backends/python/",
    "nvidia_pytriton.libs/=lib/",
];

/// What the models in Python need beside torch. The stub knows arrays as they were before numpy 2, and
/// finds those of later ones empty.
const PACKAGES: [&str; 1] = ["numpy==1.26.4"];

/// Gets the server, and returns what starts it.
pub(super) fn recipe(
    setup: &Setup<'_>,
    python: &PythonPeers,
    interrupt: &Interrupt,
) -> Result<Recipe> {
    let home = setup.workspace.cache("peers/triton");
    if !home.exists() {
        make(setup, &home, interrupt).context("get Triton from the wheel of pytriton")?;
    }
    let packages = python.python.packages_in(
        setup.workspace,
        &setup.workspace.cache("peers/triton-python"),
        &PACKAGES,
        interrupt,
    )?;
    let model = text("triton_model.py")?;
    let (models, four) = repository::write(
        &setup.folder.join("triton"),
        &setup.fixtures,
        |which, batching| {
            let config = repository::pbtxt(which, batching, "backend: \"python\"");
            vec![("config.pbtxt", config), ("1/model.py", model.clone())]
        },
    )?;
    let libraries = format!(
        "{}:{}",
        home.join("lib").display(),
        python_libraries(setup, python)?
    );
    let prefix = format!("forebay_peers_{}_", std::process::id());
    let shared = format!("--backend-config=python,shm-region-prefix-name={prefix}");
    let (files, path) = (vec![home.clone(), packages.clone()], python.path(&packages));
    let command = move |models: &Path, port: u16| {
        let mut command = Command::new(home.join("bin/tritonserver"));
        command.arg(format!("--model-repository={}", models.display()));
        command.arg(format!(
            "--backend-directory={}",
            home.join("backends").display()
        ));
        command.args(["--grpc-address=127.0.0.1", &format!("--grpc-port={port}")]);
        command.args(["--allow-http=false", "--allow-metrics=false"]);
        command.args(["--disable-auto-complete-config", &shared]);
        command.env("LD_LIBRARY_PATH", &libraries);
        command.env("PYTHONPATH", &path);
        command
    };
    Ok(Recipe {
        name: "triton",
        models,
        four,
        files,
        command: Box::new(command),
        shared_memory: Some(prefix),
    })
}

/// Unpacks the server into `home`.
fn make(setup: &Setup<'_>, home: &Path, interrupt: &Interrupt) -> Result<()> {
    let fetcher = Fetcher::new(setup.workspace, interrupt)?;
    let wheel = fetcher.fetch(&WHEEL)?;
    let partial = home.with_extension("partial");
    libtorch::remove(&partial)?;
    fetcher.unpack(&wheel, &partial, &RULES)?;
    for program in [
        "bin/tritonserver",
        "backends/python/triton_python_backend_stub",
    ] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(partial.join(program), mode)
            .with_context(|| format!("let {program} run"))?;
    }
    fs::rename(&partial, home).with_context(|| format!("make {}", home.display()))?;
    fs::remove_file(&wheel).context("remove a wheel")
}

/// Returns the folder with Python's own library, which the stub is linked to.
fn python_libraries(setup: &Setup<'_>, python: &PythonPeers) -> Result<String> {
    let line = "import sys, sysconfig; assert sys.version_info[:2] == (3, 11); \
                print(sysconfig.get_config_var('LIBDIR'))";
    let mut command = python.python.command(setup.workspace);
    let output = process::capture(command.args(["-c", line]))?;
    ensure!(
        output.status.success(),
        "its models are run by Python 3.11, and python3 is another"
    );
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    ensure!(
        folder.join("libpython3.11.so.1.0").exists(),
        "python3 was built without libpython3.11.so.1.0 in {}",
        folder.display()
    );
    Ok(folder.display().to_string())
}
