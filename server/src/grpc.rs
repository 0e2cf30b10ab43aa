//! The wire side: what stands between HTTP/2 and the service methods.

pub mod admission_body;
pub mod deadline;
pub mod panic;
mod trailers;
