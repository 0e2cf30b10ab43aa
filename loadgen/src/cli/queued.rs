//! `loadgen async`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{duration, positive};

/// What is submitted.
#[derive(Debug, Clone, Args)]
pub struct QueuedArgs {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    pub endpoint: String,
    /// The model; its inputs must have sizes
    #[arg(long, default_value = "product")]
    pub model: String,
    /// Requests
    #[arg(long, value_name = "N", value_parser = positive, default_value = "10")]
    pub requests: usize,
    /// Time that all answers may take
    #[arg(long, value_parser = duration, default_value = "1m")]
    pub timeout: Duration,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
