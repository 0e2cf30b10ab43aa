//! The accelerator device on an accelerator made of threads, which libtorch takes for a real one:
//! see `fake_accelerator/fake.h`. What is shown here is order, ownership and bytes; never speed.

#![expect(
    clippy::unwrap_used,
    reason = "all of this is tests, also what they share; clippy exempts only the test functions"
)]

mod copies;
mod failures;
mod models;
mod rig;
mod serving;
