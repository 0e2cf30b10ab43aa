//! Servers for tests, and clients that misbehave.
//!
//! [`TestServer`] runs inside the test and shows its budget and its models. [`Process`] is the real
//! binary, for what concerns signals and exit codes. [`RawClient`] sends HTTP/2 frames by hand.
//!
//! Invariant: nothing here sleeps in place of a condition, and everything that is waited for must
//! come within [`LONG`]. What cannot be set up panics, which fails the test with its reason.

mod builder;
mod process;
mod raw;
mod repository;
mod server;
mod wait;

pub use builder::Builder;
pub use process::{Checked, Process};
pub use raw::{RawCall, RawClient, framed, prefix};
pub use repository::{TestRepository, echo};
pub use server::TestServer;
pub use wait::{LONG, until, within};
