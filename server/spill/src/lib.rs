//! Page-aligned host memory, and a store on NVMe for what overflows it.

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
    config::{Checksum, Config},
    engine::choose::Choice,
    error::{Error, Lost, OpenError, Refused},
    stats::{DirStats, Histogram, Stats},
    store::{Class, Data, Parked, Store},
};
