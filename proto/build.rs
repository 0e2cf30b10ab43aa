//! Compiles the contract with protox, so that no system `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/grpc_service.proto"], ["proto"])?;
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo hands build scripts their paths this way"
    )]
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("inference.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
