//! Ten tensors go to the disk, come back in any order, are doubled and go there again.
//!
//! `cargo run -p forebay-spill --example ten_tensors -- /path/on/nvme`

use std::{error::Error, path::PathBuf};

use forebay_spill::{Class, Config, Parked, Store, memory::Pool};
use tokio::task::JoinSet;

const TENSORS: u8 = 10;
const BYTES: usize = 1 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let pool = Pool::new(32 << 20);
    let store = Store::open(
        Config {
            segment_bytes: 64 << 20,
            ..Config::new([dir.join("forebay-ten-tensors")])
        },
        pool.clone(),
    )?;

    let mut parked = Vec::new();
    for value in 0..TENSORS {
        let mut tensor = pool.lease(BYTES);
        tensor.fill(value);
        parked.push(store.offload(tensor)?);
    }

    // Each is doubled and written back as soon as it is there, whichever that is.
    let mut doubled = JoinSet::new();
    for (value, one) in (0..TENSORS).zip(parked) {
        let (store, back) = (store.clone(), store.onboard(one, Class::Demand));
        doubled.spawn(async move {
            let mut tensor = back.await.expect("the disk works");
            tensor.iter_mut().for_each(|byte| *byte *= 2);
            let parked = store.offload(tensor).expect("there is room");
            (value, parked)
        });
    }
    let parked: Vec<(u8, Parked)> = doubled.join_all().await;
    store.synchronize().await;

    for (value, one) in parked {
        let tensor = store.read(&one, Class::Demand).await?;
        assert!(
            tensor.iter().all(|byte| *byte == 2 * value),
            "tensor {value} is doubled"
        );
    }
    let written = store.stats().written;
    eprintln!(
        "{} bytes written in {} operations",
        written.bytes, written.operations
    );
    Ok(())
}
