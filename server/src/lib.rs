//! The Forebay inference server.

pub mod admission;
pub mod grpc;
pub mod transport;
