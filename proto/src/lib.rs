//! The contract between Forebay and its clients.
//!
//! [`inference`] is generated from `proto/*.proto` (the Open Inference Protocol with Triton's
//! extensions). The other modules are the domain types that both ends work with: [`InferRequest`],
//! [`InferResponse`], [`Tensor`], [`DataType`], [`Shape`].
//!
//! Invariant: sending is infallible (`From`), and everything received is validated once, by
//! `TryFrom`, before it goes further. A [`Tensor`] therefore always holds as many bytes as its
//! datatype and shape say.
//!
//! ```
//! use forebay_proto::{DataType, Shape, Tensor};
//!
//! let shape = Shape::new(vec![1, 3])?;
//! let tensor = Tensor::new("INPUT__0", DataType::Fp32, shape, vec![0u8; 12])?;
//! assert_eq!(tensor.shape().dims(), [1, 3]);
//! # Ok::<(), forebay_proto::ProtocolError>(())
//! ```

mod bytes_elements;
mod contents;
mod datatype;
mod error;
pub mod framing;
pub mod limits;
mod parameter;
pub mod pieces;
mod request;
mod response;
mod shape;
mod survey;
mod tensor;

pub use bytes_elements::{BytesElements, encode_bytes_elements};
pub use datatype::DataType;
pub use error::ProtocolError;
pub use parameter::{Parameter, Parameters};
pub use request::{InferRequest, SequenceControl, SequenceId};
pub use response::{InferResponse, StreamReply};
pub use shape::Shape;
pub use survey::{Survey, names, survey};
pub use tensor::Tensor;

/// Messages, service and client as generated from the `.proto` files.
///
/// Field and message comments live in the `.proto` files.
#[expect(
    missing_docs,
    clippy::too_many_lines,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod inference {
    tonic::include_proto!("inference");
}

/// The compiled descriptors of every message and service, for reflection and for reading
/// `config.pbtxt`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.bin"));
