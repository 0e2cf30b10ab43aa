//! The parts of `loadgen`, a load generator whose latencies a sceptic can believe.
//!
//! ```text
//!   schedule -> pacer (own thread) -> runner::open  \
//!                                     runner::closed -> flight -> target (the client, or a script)
//!                                                         |
//!                      records -> stats -> verdict -> report (table, JSON, HTML)
//! ```
//!
//! Four times are kept apart for each request: when it should have been sent, when the client handed
//! it over, when the transport took it, and when its answer was whole. *Response* runs from the first
//! and *service* from the third; *lag*, which is the client's, lies between the first two, and between
//! the next two it is *held back*, by the connection or the server. The schedule is fixed before the
//! start and is never shifted, so a target that stalls cannot slow down the questions it is asked.
//!
//! Beside such loads, [`ladder`] compares configurations of a model, [`queued`] tells submitting from
//! done, [`parity`] compares the answers of two servers, and `spill` measures a disk without any.

pub mod cli;
pub mod clock;
pub mod figures;
pub mod host;
pub mod ladder;
pub mod output;
pub mod pacer;
pub mod parity;
pub mod payload;
pub mod progress;
pub mod queued;
pub mod record;
pub mod report;
pub mod run;
pub mod runner;
pub mod schedule;
#[cfg(target_os = "linux")]
pub mod spill;
pub mod stats;
pub mod target;
pub mod verdict;
