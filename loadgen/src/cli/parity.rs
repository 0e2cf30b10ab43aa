//! `loadgen parity`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{InputShape, duration, input_shape, positive};

/// What is compared.
#[derive(Debug, Clone, Args)]
pub struct ParityArgs {
    /// The server whose answers are in question
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    pub endpoint: String,
    /// The server whose answers count as right
    #[arg(long)]
    pub reference: String,
    /// A model of the server in question
    #[arg(long = "model", value_name = "MODEL", required = true)]
    pub models: Vec<String>,
    /// The model to ask the reference for, where its name differs
    #[arg(long, value_name = "MODEL")]
    pub reference_model: Option<String>,
    /// Batch sizes
    #[arg(long = "batch", value_name = "B", value_delimiter = ',', default_values_t = [1, 32], value_parser = clap::value_parser!(u32).range(1..))]
    pub batches: Vec<u32>,
    /// Shape of an input with dimensions of any size, such as IMAGE:3,224,224
    #[arg(long = "shape", value_name = "INPUT:DIMS", value_parser = input_shape)]
    pub shapes: Vec<InputShape>,
    /// Different requests for each model and batch size
    #[arg(long, value_name = "K", value_parser = positive, default_value = "2")]
    pub variants: usize,
    /// Largest difference, as a part of the output's largest magnitude
    #[arg(long, value_name = "PART", default_value_t = 1e-3)]
    pub tolerance: f64,
    /// Time that an answer may take
    #[arg(long, value_parser = duration, default_value = "2m")]
    pub timeout: Duration,
    /// Seed of the payloads
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
