//! The client against a server that does as it is told.

// `cfg(test)` is how clippy knows that helpers may unwrap too.
#[cfg(test)]
mod calls;
#[cfg(test)]
#[path = "../../examples/vad_stream/detect.rs"]
mod detect;
#[cfg(test)]
mod example;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod keepalive;
#[cfg(test)]
mod large;
#[cfg(test)]
mod scripted;
#[cfg(test)]
#[path = "../../examples/vad_stream/segments.rs"]
mod segments;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod stream_end;
