//! The client of Forebay, and of any server that speaks the Open Inference Protocol over gRPC.
//!
//! [`Client`] makes single calls. [`Session`] is one bidirectional stream: it bounds what is in
//! flight in bytes and in requests, and gives a [`Ticket`] for each request. Every [`Reply`] says
//! when its request was reserved, sent, first answered and done.
//!
//! ```no_run
//! use forebay_client::{Client, Request, tensor};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("http://127.0.0.1:8001").await?;
//! let input = tensor::from_slice("INPUT__0", &[1.0f32, 2.0, 3.0], [1, 3])?;
//! let reply = client.infer(Request::new("scale").with_input(input)).await?;
//! if let Some(output) = reply.output("OUTPUT__0") {
//!     let values: Vec<f32> = tensor::to_vec(output)?;
//!     assert_eq!(values.len(), 3);
//! }
//! # Ok(())
//! # }
//! ```

mod builder;
mod client;
mod code;
mod error;
mod metadata;
mod reply;
mod request;
mod session;
mod statistics;
pub mod tensor;
mod transport;

pub use builder::{Builder, ConnectError};
pub use client::Client;
pub use code::Code;
pub use error::{CallError, InferError};
pub use forebay_proto::{DataType, Parameter, Parameters, ProtocolError, Shape, Tensor};
pub use metadata::{ModelConfig, ModelIndex, ModelMetadata, ServerMetadata, TensorMetadata};
pub use reply::{Reply, ServerTimings, Timings};
pub use request::Request;
pub use session::{Permit, Session, StreamOptions, Ticket};
pub use statistics::{
    BatchPaths, BatchStatistics, DeviceStatistics, DurationTotal, ModelStatistics,
    PipelineStatistics, Statistics,
};
