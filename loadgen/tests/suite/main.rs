//! The load generator as a whole, against a server on the loopback.

// `cfg(test)` is how clippy knows that helpers may unwrap too.
#[cfg(test)]
mod command;
#[cfg(test)]
mod comparisons;
#[cfg(test)]
mod ladder;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod server;
