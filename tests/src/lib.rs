//! What the end-to-end tests of Forebay share.

pub mod models;
