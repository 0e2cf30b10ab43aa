//! What the end-to-end tests of Forebay share: fixture models, and servers to serve them.

pub mod harness;
pub mod models;
pub mod overload;
pub mod pipelines;
pub mod slow_clients;

pub use forebay_loadgen::figures;
