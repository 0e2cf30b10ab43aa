//! The end-to-end suites: each runs a server as its users do, and looks at it through the wire.

#![expect(
    clippy::unwrap_used,
    reason = "all of this is tests, also what they share; clippy exempts only the test functions"
)]

mod bad_input;
mod conversation;
mod protocol;
mod shutdown;
