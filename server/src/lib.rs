//! Forebay, an inference server: clients stream tensors over gRPC, a pipelined executor keeps the
//! device busy, and memory is bounded in bytes.
//!
//! The way of a request is straight down:
//!
//! ```text
//! transport        connections: how many, how long, HTTP/2 limits, drain
//!   grpc           admission by message prefix, deadline, decode            -> InferRequest
//!     inference    model, signature, deadline                               -> Job
//!       scheduler  queue and batcher; a batch forms when the first stage has room
//!         overflow (beside the queue) parks on NVMe what runs last, and brings it back
//!         executor h2d (gather, copy) -> compute (forward) -> d2h (copy, wait, split)
//!       reply      Bytes that own their memory                              -> InferResponse
//! ```
//!
//! [`server`] builds the parts and joins them; nothing else does.

pub mod admission;
pub mod cli;
pub mod config;
pub mod device;
pub mod error;
pub mod executor;
pub mod grpc;
pub mod inference;
pub mod metrics;
pub mod model;
pub mod overflow;
pub mod parking;
pub mod registry;
pub mod repository;
pub mod request;
pub mod residency;
pub mod scheduler;
pub mod server;
pub mod signature;
pub mod statistics;
pub mod telemetry;
pub mod tensor;
pub mod torch;
pub mod transport;

pub use forebay_spill::memory;
