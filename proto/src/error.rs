//! What can be wrong with a message that was received.

use crate::DataType;

/// A message breaks the protocol. The text names the field and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// More items than [`limits`](crate::limits) allow.
    #[error("{count} {what} in one request; at most {limit} are allowed")]
    TooMany {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// How many came.
        count: usize,
        /// How many may come.
        limit: usize,
    },
    /// A name is longer than [`MAX_NAME_BYTES`](crate::limits::MAX_NAME_BYTES).
    #[error("a {what} of {length} bytes; at most {limit} are allowed")]
    NameTooLong {
        /// What the name belongs to.
        what: &'static str,
        /// Bytes that came.
        length: usize,
        /// Bytes that may come.
        limit: usize,
    },
    /// A required name is empty.
    #[error("{what} must not be empty")]
    Empty {
        /// The field that is empty.
        what: &'static str,
    },
    /// Two tensors share a name.
    #[error("{what} '{name}' appears more than once in the request")]
    Duplicate {
        /// The kind of tensor.
        what: &'static str,
        /// The shared name.
        name: String,
    },
    /// A datatype the protocol does not know.
    #[error("tensor '{tensor}' has datatype '{datatype}'; expected one of {}", DataType::NAMES.join(", "))]
    UnknownDatatype {
        /// The tensor.
        tensor: String,
        /// The datatype as it came.
        datatype: String,
    },
    /// A dimension below zero.
    #[error(
        "shape {dims:?} has a negative dimension; every dimension of a request's tensor must be known"
    )]
    NegativeDimension {
        /// The shape as it came.
        dims: Vec<i64>,
    },
    /// The number of elements, or of bytes, does not fit 64 bits.
    #[error("shape {dims:?} has more elements than fit 64 bits")]
    ShapeOverflow {
        /// The shape as it came.
        dims: Vec<i64>,
    },
    /// The bytes are not as many as datatype and shape say.
    #[error("byte size mismatch for tensor '{tensor}'. Expected {expected}, got {actual}")]
    SizeMismatch {
        /// The tensor.
        tensor: String,
        /// Bytes that datatype and shape make.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
    /// BYTES content whose length prefixes do not add up.
    #[error(
        "tensor '{tensor}' is not valid BYTES: expected {expected} elements, each a little-endian \
         uint32 length and that many bytes, but {reason}"
    )]
    MalformedBytes {
        /// The tensor.
        tensor: String,
        /// Elements that the shape makes.
        expected: u64,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// Raw and typed contents in one request.
    #[error(
        "contents field must not be specified when using raw_input_contents for input '{tensor}'"
    )]
    MixedContents {
        /// The tensor with typed contents.
        tensor: String,
    },
    /// A number of raw entries other than that of the tensors.
    #[error("expected {expected} raw contents, one for each tensor, but got {actual}")]
    RawCount {
        /// Tensors in the message.
        expected: usize,
        /// Raw entries in the message.
        actual: usize,
    },
    /// A tensor without data.
    #[error("unable to find data for input tensor '{tensor}' in request")]
    MissingData {
        /// The tensor.
        tensor: String,
    },
    /// Typed contents in a field that is not the datatype's.
    #[error(
        "unexpected explicit tensor data for input tensor '{tensor}': datatype {datatype} is sent {expected}"
    )]
    WrongContents {
        /// The tensor.
        tensor: String,
        /// Its datatype.
        datatype: DataType,
        /// Where its elements belong.
        expected: &'static str,
    },
    /// A parameter with a value of the wrong type.
    #[error("parameter '{name}' must be {expected}")]
    WrongParameter {
        /// The parameter.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A parameter that the protocol reserves.
    #[error("parameter '{name}' is reserved and must not be set")]
    ReservedParameter {
        /// The parameter.
        name: String,
    },
    /// A tensor in shared memory, which Forebay does not serve.
    #[error(
        "tensor '{tensor}' is in shared memory, which this server does not support; send its contents"
    )]
    SharedMemory {
        /// The tensor.
        tensor: String,
    },
    /// A message with a group, an encoding that the protocol does not use.
    #[error(
        "the message has a group, which the protocol does not use; encode fields as its .proto says"
    )]
    Group,
    /// A part of a message that breaks off.
    #[error("a tensor of the message breaks off; encode it as its .proto says")]
    BrokenOff,
    /// A requested output of classes in place of values, which Forebay does not serve.
    #[error(
        "output '{output}' is asked for by classification, which this server does not support; ask for its values"
    )]
    Classification {
        /// The output.
        output: String,
    },
    /// A message without a part that it needs.
    #[error("{what} is missing")]
    Missing {
        /// The absent part.
        what: &'static str,
    },
}
