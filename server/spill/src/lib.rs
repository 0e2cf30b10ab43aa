//! Page-aligned host memory, and a store on NVMe for what overflows it.

pub mod engine;
pub mod memory;
#[cfg(target_os = "linux")]
pub mod segment;
