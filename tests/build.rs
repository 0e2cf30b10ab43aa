//! Tells this package's binaries and tests where libtorch lies at run time, and builds the libraries
//! that tests have the server load in place of CUDA's.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The accelerator of the tests, in C++.
const FAKE: [&str; 3] = ["memory.cpp", "operators.cpp", "streams.cpp"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    match libtorch() {
        Ok(libtorch) => {
            let lib = libtorch.join("lib");
            println!("cargo::rerun-if-changed={}", lib.display());
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
            if let Err(fault) = libraries(&libtorch) {
                println!("cargo::error=the libraries of the tests cannot be built: {fault}");
            }
        }
        Err(fault) => println!("cargo::error={fault}: run `cargo xtask libtorch`"),
    }
}

/// Returns the absolute path of the libtorch that the environment names, or what is wrong with it.
fn libtorch() -> Result<PathBuf, String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo and its users hand build scripts their paths this way"
    )]
    let named = env::var_os("LIBTORCH").ok_or("LIBTORCH is not set")?;
    Path::new(&named)
        .canonicalize()
        .ok()
        .filter(|path| path.join("lib/libtorch_cpu.so").is_file())
        .ok_or_else(|| {
            format!(
                "LIBTORCH names {}, which holds no lib/libtorch_cpu.so",
                Path::new(&named).display()
            )
        })
}

/// Builds the fake accelerator, and a library that brings nothing.
fn libraries(libtorch: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-changed=fake_accelerator");
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo hands build scripts their folder this way"
    )]
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names no folder")?);
    let include = libtorch.join("include");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .pic(true)
        .cargo_metadata(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"));
    build.files(FAKE.map(|file| Path::new("fake_accelerator").join(file)));
    let objects = build
        .try_compile_intermediates()
        .map_err(|error| error.to_string())?;
    let library = out.join("libfake_accelerator.so");
    let mut link = build.get_compiler().to_command();
    link.arg("-shared").arg("-o").arg(&library).args(objects);
    link.arg(format!("-L{}", libtorch.join("lib").display()));
    run(link.args(["-ltorch_cpu", "-lc10"]))?;
    println!(
        "cargo::rustc-env=FOREBAY_FAKE_ACCELERATOR={}",
        library.display()
    );

    plain(&out, "EMPTY", "")?;
    // As a library of another version does, it asks for what this libtorch has not.
    plain(
        &out,
        "FOREIGN",
        "int fb_of_another_version(void);\nint x(void) { return fb_of_another_version(); }\n",
    )
}

/// Builds a `libtorch_cuda.so` of a few lines of C, and tells where it is.
fn plain(out: &Path, name: &str, text: &str) -> Result<(), String> {
    let folder = out.join(name.to_lowercase());
    let (source, library) = (folder.join("source.c"), folder.join("libtorch_cuda.so"));
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    fs::write(&source, text).map_err(|error| error.to_string())?;
    let build = cc::Build::new()
        .cargo_metadata(false)
        .pic(true)
        .get_compiler();
    run(build
        .to_command()
        .arg("-shared")
        .arg("-o")
        .arg(&library)
        .arg(source))?;
    println!(
        "cargo::rustc-env=FOREBAY_{name}_LIBRARY={}",
        library.display()
    );
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stderr);
    output
        .status
        .success()
        .then_some(())
        .ok_or(told.into_owned())
}
