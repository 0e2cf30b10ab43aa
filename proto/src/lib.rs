//! Placeholder.
#[expect(missing_docs, clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod inference { tonic::include_proto!("inference"); }
