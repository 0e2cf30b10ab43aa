//! Page-aligned host memory, and a store on NVMe for what overflows it.
//!
//! [`memory`] lends buffers that a device and a disk take as they are. A [`Store`] parks tensors in
//! the directories it is given, asynchronously and past the page cache, and brings them back in any
//! order. It knows bytes only, and works under any executor or none ([`Store::blocking`]).
//!
//! ```
//! # use std::error::Error;
//! use forebay_spill::{Class, Config, Store, memory::Pool};
//!
//! # fn main() -> Result<(), Box<dyn Error>> {
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(run())
//! # }
//! # async fn run() -> Result<(), Box<dyn Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let config = Config { segment_bytes: 32 << 20, min_free_bytes: 0, allow_tmpfs: true, ..Config::new([dir.path().into()]) };
//! let pool = Pool::new(32 << 20);
//! let store = Store::open(config, pool.clone())?;
//!
//! // Ten tensors are written,
//! let mut parked = Vec::new();
//! for value in 0..10 {
//!     let mut tensor = pool.lease(1 << 20);
//!     tensor.fill(value);
//!     parked.push(store.offload(tensor)?);
//! }
//! // read in any order, doubled, and written back,
//! let mut doubled = Vec::new();
//! for (value, one) in (0..10).zip(parked).rev() {
//!     let mut tensor = store.onboard(one, Class::Demand).await?;
//!     tensor.iter_mut().for_each(|byte| *byte *= 2);
//!     doubled.push((value, store.offload(tensor)?));
//! }
//! store.synchronize().await;
//! // and are doubled.
//! for (value, one) in doubled {
//!     let tensor = store.onboard(one, Class::Demand).await?;
//!     assert!(tensor.iter().all(|byte| *byte == 2 * value));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it promises: a tensor that was accepted comes back as it was, or with an error that says why
//! not; until it is written its memory is kept, so that a disk which is full or fails loses nothing.
//! What is parked does not outlive the process.
//!
//! Invariant: memory and files that the kernel may touch are owned by an engine, whichever futures
//! are dropped meanwhile.

#[cfg(target_os = "linux")]
mod bounds;
#[cfg(target_os = "linux")]
mod checksum;
#[cfg(target_os = "linux")]
pub mod config;
pub mod engine;
#[cfg(target_os = "linux")]
pub mod error;
#[cfg(target_os = "linux")]
pub mod extent;
pub mod memory;
#[cfg(target_os = "linux")]
mod seal;
#[cfg(target_os = "linux")]
pub mod segment;
#[cfg(target_os = "linux")]
pub mod stats;
#[cfg(target_os = "linux")]
pub mod store;

#[cfg(target_os = "linux")]
pub use self::{
    bounds::Bounds,
    config::{Checksum, Config},
    engine::choose::Choice,
    error::{Error, Lost, OpenError, Refused},
    stats::{DirStats, Histogram, Stats},
    store::{Class, Data, Parked, Store},
};
