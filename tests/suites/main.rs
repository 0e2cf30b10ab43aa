//! The end-to-end suites: each runs a server as its users do, and looks at it through the wire.

mod bad_input;
mod protocol;
mod shutdown;
