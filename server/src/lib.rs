//! The Forebay inference server.

pub mod repository;
pub mod signature;
