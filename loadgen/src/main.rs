//! Placeholder.
//! .
fn main() {}
