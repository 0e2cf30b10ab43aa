//! Waiting for the network and computing: neither holds up the other.

mod threads;
mod timing;
