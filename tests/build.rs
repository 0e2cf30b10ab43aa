//! Tells this package's binaries and tests where libtorch lies at run time.

use std::{
    env,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    match libtorch() {
        Ok(libtorch) => {
            let lib = libtorch.join("lib");
            println!("cargo::rerun-if-changed={}", lib.display());
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
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
