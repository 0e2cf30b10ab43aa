//! The end-to-end suites: each runs a server as its users do, and looks at it through the wire.

#![expect(
    clippy::unwrap_used,
    reason = "all of this is tests, also what they share; clippy exempts only the test functions"
)]

mod bad_input;
mod conversation;
#[path = "../../client/examples/vad_stream/detect.rs"]
mod detect;
mod device_failure;
mod devices;
mod dropped_streams;
mod freezing;
mod intra_op;
mod overflow;
mod protocol;
mod queue;
mod readme;
mod residency;
#[path = "../../client/examples/vad_stream/segments.rs"]
mod segments;
mod sequences;
mod shutdown;
mod slow_clients;
mod telemetry;
mod vad;
mod warmup;
#[path = "../../client/examples/vad_stream/wav.rs"]
mod wav;
