//! Page-aligned host memory, and a store on NVMe for what overflows it.

pub mod engine;
pub mod memory;
