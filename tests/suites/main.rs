//! The end-to-end suites: each runs a server as its users do, and looks at it through the wire.

// `cfg(test)` is how clippy knows that helpers may unwrap too.
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod conversation;
#[cfg(test)]
#[path = "../../client/examples/vad_stream/detect.rs"]
mod detect;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod readme;
#[cfg(test)]
#[path = "../../client/examples/vad_stream/segments.rs"]
mod segments;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod slow_clients;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod vad;
#[cfg(test)]
#[path = "../../client/examples/vad_stream/wav.rs"]
mod wav;
