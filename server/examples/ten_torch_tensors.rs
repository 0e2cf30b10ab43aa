//! Ten tensors of libtorch's go to the disk, come back in any order, are doubled and go there again.
//!
//! `cargo run -p forebay-server --example ten_torch_tensors -- /path/on/nvme`

use std::{error::Error, path::PathBuf};

use forebay_server::{memory::Pool, torch::TensorStore};
use forebay_spill::{Class, Config, Store};
use tch::{Device, Kind, Tensor};
use tokio::task::JoinSet;

const TENSORS: i64 = 10;
const DIMS: [i64; 2] = [512, 512];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let config = Config {
        segment_bytes: 64 << 20,
        ..Config::new([dir.join("forebay-ten-torch-tensors")])
    };
    let store = TensorStore::new(Store::open(config, Pool::new(32 << 20))?);

    let filled = |value| Tensor::full(DIMS, value, (Kind::Float, Device::Cpu));
    let mut parked = Vec::new();
    for value in 0..TENSORS {
        parked.push((value, store.offload(filled(value))?));
    }

    // Each is doubled and written back as soon as it is there, whichever that is.
    let mut doubled = JoinSet::new();
    for (value, one) in parked.into_iter().rev() {
        let (store, back) = (store.clone(), store.onboard(one, Class::Demand));
        doubled.spawn(async move {
            let tensor = back.await.expect("the disk works");
            let parked = store.offload(tensor * 2).expect("there is room");
            (value, parked)
        });
    }
    let parked = doubled.join_all().await;
    store.synchronize().await;

    for (value, one) in parked {
        let tensor = store.onboard(one, Class::Demand).await?;
        assert_eq!(tensor, filled(2 * value), "tensor {value} is doubled");
    }
    let written = store.store().stats().written;
    eprintln!(
        "{} bytes written in {} operations",
        written.bytes, written.operations
    );
    Ok(())
}
