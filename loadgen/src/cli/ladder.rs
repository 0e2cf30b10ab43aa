//! `loadgen ladder`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{InputShape, duration, input_shape, positive};

/// Columns, where none are given: the models that `cargo xtask models --ladder` writes, and the
/// AOTInductor package that the exporter makes.
const COLUMNS: [(&str, &str); 7] = [
    ("inline", "ladder_inline"),
    ("copy stages", "ladder_stages"),
    ("workers 2", "ladder_workers2"),
    ("workers 3", "ladder_workers3"),
    ("workers 4", "ladder_workers4"),
    ("auto", "ladder_auto"),
    (".pt2", "ladder_aoti"),
];

/// The model behind the floor, where none is given.
const FLOOR: &str = "ladder_transport";

/// One configuration of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What it is called in the table.
    pub label: String,
    /// The model that is served so.
    pub model: String,
}

/// What a ladder is made of.
#[derive(Debug, Clone, Args)]
pub struct LadderArgs {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    pub endpoint: String,
    /// A configuration; the one labelled `auto` is held against the others of its platform [default:
    /// the models of `cargo xtask models --ladder`, next to published figures]
    #[arg(long = "column", value_name = "LABEL=MODEL", value_parser = column)]
    pub columns: Vec<Column>,
    /// A model that does next to nothing with the same input: what client and network can carry
    #[arg(long, value_name = "MODEL", default_value = FLOOR)]
    pub floor: String,
    /// Batch sizes, a request each
    #[arg(long = "batch", value_name = "B", value_delimiter = ',', default_values_t = [1, 32, 64, 128, 256], value_parser = clap::value_parser!(u32).range(1..))]
    pub batches: Vec<u32>,
    /// Requests that are sent at once
    #[arg(long, value_name = "N", value_parser = positive, default_value = "100")]
    pub requests: usize,
    /// How often, taking turns between the configurations, after once as a run-in that does not count
    #[arg(long, value_name = "N", value_parser = positive, default_value = "10")]
    pub repetitions: usize,
    /// Time that all of it may take; what is complete by then is reported
    #[arg(long, value_parser = duration, default_value = "30m")]
    pub limit: Duration,
    /// Time that all answers to requests sent at once may take
    #[arg(long, value_parser = duration, default_value = "2m")]
    pub timeout: Duration,
    /// Streams that the requests are spread over, each with a connection of its own
    #[arg(long, value_name = "N", value_parser = positive, default_value = "8")]
    pub streams: usize,
    /// Shape of an input with dimensions of any size, such as IMAGE:3,224,224
    #[arg(long = "shape", value_name = "INPUT:DIMS", value_parser = input_shape)]
    pub shapes: Vec<InputShape>,
    /// Different payloads, which take turns
    #[arg(long, value_name = "K", value_parser = positive, default_value = "2")]
    pub variants: usize,
    /// Seed of the payloads
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Fail unless `auto` is within 2 % of the best of its platform at every batch size, by all repetitions
    #[arg(long)]
    pub check: bool,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Show neither progress nor table
    #[arg(long)]
    pub quiet: bool,
}

impl LadderArgs {
    /// Returns the columns: those given, or the usual ones.
    pub fn columns(&self) -> Vec<Column> {
        if !self.columns.is_empty() {
            return self.columns.clone();
        }
        let usual = COLUMNS.iter().map(|(label, model)| Column {
            label: (*label).to_owned(),
            model: (*model).to_owned(),
        });
        usual.collect()
    }

    /// Returns whether published figures are of the same model and input.
    pub fn is_usual(&self) -> bool {
        self.columns.is_empty()
    }
}

/// Reads `LABEL=MODEL`.
fn column(text: &str) -> Result<Column, String> {
    match text.split_once('=') {
        Some((label, model)) if !label.is_empty() && !model.is_empty() => Ok(Column {
            label: label.to_owned(),
            model: model.to_owned(),
        }),
        _ => Err("expected LABEL=MODEL, such as auto=resnet18".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<LadderArgs, clap::Error> {
        let words = ["loadgen", "ladder"]
            .into_iter()
            .chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Ladder(args) => *args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn without_arguments_it_is_the_published_ladder() {
        let args = parse("").unwrap();
        assert_eq!(args.batches, [1, 32, 64, 128, 256]);
        assert_eq!((args.requests, args.repetitions), (100, 10));
        assert_eq!(args.columns().len(), 7);
        assert!(args.is_usual());
    }

    #[test]
    fn columns_and_batches_are_settable() {
        let args = parse("--column auto=a=b --column x=y --batch 1,4").unwrap();
        assert_eq!(args.columns()[0].model, "a=b");
        assert_eq!((args.batches.len(), args.is_usual()), (2, false));
        assert!(parse("--column auto").is_err());
        assert!(parse("--batch 0").is_err());
    }
}
