//! Compiles the shim over libtorch and tells the linker where libtorch is at run time.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo and torch-sys hand build scripts their settings through the environment"
)]

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = env::var_os("LIBTORCH")
        .map(PathBuf::from)
        .and_then(|dir| fs::canonicalize(dir).ok());
    let Some(libtorch) = libtorch.filter(|dir| dir.join("lib").is_dir()) else {
        println!(
            "cargo::error=there is no libtorch at LIBTORCH: run `cargo xtask libtorch` to get it, \
             or set LIBTORCH to a folder with libtorch 2.11.0"
        );
        return;
    };
    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        // Lines for backtraces, as the profile has it: libtorch's headers are tens of MB of types.
        .flag_if_supported("-g1")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .file("shim/aoti.cpp")
        .file("shim/forms.cpp")
        .file("shim/torch.cpp")
        .file("shim/accelerator.cpp")
        .compile("forebay_torch");
    println!(
        "cargo::rustc-link-search=native={}",
        libtorch.join("lib").display()
    );
    println!("cargo::rustc-link-lib=dylib=torch_cpu");
    println!("cargo::rustc-link-lib=dylib=c10");
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        // The standard library unpacks them when it writes a backtrace.
        println!("cargo::rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib");
    }
    println!(
        "cargo::rustc-link-arg=-Wl,-rpath,{}",
        libtorch.join("lib").display()
    );
}
