//! Caps on what one request may hold. [`survey`](crate::survey) checks them before a large message is decoded,
//! [`InferRequest`](crate::InferRequest) once it is.

/// Input tensors of a request.
pub const MAX_INPUTS: usize = 256;
/// Requested outputs of a request.
pub const MAX_OUTPUTS: usize = 256;
/// Parameters of a request or a tensor.
pub const MAX_PARAMETERS: usize = 64;
/// Bytes in a tensor's, model's or parameter's name, or in a request's id.
pub const MAX_NAME_BYTES: usize = 256;
/// Dimensions of a tensor.
pub const MAX_DIMS: usize = 32;
