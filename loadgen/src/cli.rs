//! The command line.

pub mod interrupt;
mod ladder;
mod parity;
mod queued;
#[cfg(target_os = "linux")]
mod spill;
mod values;

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use ladder::{Column, LadderArgs};
pub use parity::ParityArgs;
pub use queued::QueuedArgs;
#[cfg(target_os = "linux")]
pub use spill::SpillArgs;
pub use values::{InputShape, NamedParameter};
use values::{duration, input_shape, parameter, positive};

use crate::schedule::Arrivals;

/// Requests in flight for each connection, where the connections are not given.
const PER_CONNECTION: usize = 100;

/// Requests allowed in flight in an open loop, where that is not given.
const MAX_IN_FLIGHT: usize = 1000;

/// The time that is measured, where neither a time nor a number of requests is given.
const DURATION: Duration = Duration::from_secs(10);

/// The parameter by which requests on streams tell how long their answer may take.
const TIMEOUT: &str = "timeout";

/// Measures an inference server as its users meet it.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Offer one load and report on it.
    ///
    /// Ends with 0 if the report is VALID, 2 if INVALID, 3 if CLIENT-LIMITED, 1 if there is none.
    Run(Box<RunArgs>),
    /// Compare configurations of a model, batch size by batch size, as published figures do.
    ///
    /// Many requests are sent at once after one for warm-up, to one model after the other, again
    /// and again. Ends with 1 under --check where `auto` is not within 2 % of the best, where nothing
    /// else is there to tell that by, or where the ladder was cut before all its repetitions.
    Ladder(Box<LadderArgs>),
    /// Show how far submitting work is from having it done.
    #[command(name = "async")]
    Queued(QueuedArgs),
    /// Compare the answers of two servers to the same requests.
    ///
    /// Ends with 1 where they differ by more than --tolerance.
    Parity(Box<ParityArgs>),
    /// Show what a disk gives to the store that parks tensors.
    ///
    /// Needs no server: tensors go to a store in --dir and come back, size by size.
    #[cfg(target_os = "linux")]
    SpillBench(SpillArgs),
}

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Each as a call of its own.
    Unary,
    /// Many on one bidirectional stream.
    Stream,
}

/// One load.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    pub endpoint: String,
    /// The model
    #[arg(long)]
    pub model: String,
    /// How requests travel
    #[arg(long, value_enum, default_value = "unary")]
    pub mode: Mode,
    /// What is offered.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What is sent.
    #[command(flatten)]
    pub payload: PayloadArgs,
    /// What bounds it.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Where the report goes.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What is offered.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// Closed loop: keep so many requests in flight. Says nothing about latency at a rate
    #[arg(long, value_name = "N", value_parser = positive, required_unless_present = "rate", conflicts_with = "rate")]
    pub concurrency: Option<usize>,
    /// Open loop: send so many requests a second, whatever becomes of them
    #[arg(long, value_name = "R")]
    pub rate: Option<f64>,
    /// How the gaps of an open loop are drawn
    #[arg(
        long,
        value_enum,
        default_value = "poisson",
        conflicts_with = "concurrency"
    )]
    pub arrivals: Arrivals,
    /// Time that is measured [default: 10s, or no limit with --requests]
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Time before it that is not
    #[arg(long, value_parser = duration, default_value = "2s")]
    pub warmup: Duration,
    /// Requests that are measured at most
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Seed of schedule and payloads
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Make the requests of each place in flight a chain of sequences, eight requests each
    #[arg(long, conflicts_with = "rate")]
    pub sequences: bool,
}

/// What is sent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Payload")]
pub struct PayloadArgs {
    /// Size of the batch dimension
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Shape of an input with dimensions of any size, such as IMAGE:3,224,224
    #[arg(long = "shape", value_name = "INPUT:DIMS", value_parser = input_shape)]
    pub shapes: Vec<InputShape>,
    /// Different payloads, which take turns
    #[arg(long, value_name = "K", default_value_t = 16)]
    pub variants: usize,
    /// Parameter of every request, such as forebay_timings=true
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = parameter)]
    pub parameters: Vec<NamedParameter>,
}

/// What bounds it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// HTTP/2 connections [default: one for each 100 in flight]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub connections: Option<usize>,
    /// Streams, in stream mode [default: one for each connection]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub streams: Option<usize>,
    /// Let replies overtake one another on a stream
    #[arg(long)]
    pub completion_order: bool,
    /// Requests of an open loop in flight at once; more are counted as not sent [default: 1000]
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "concurrency")]
    pub max_in_flight: Option<usize>,
    /// Time that an answer may take
    #[arg(long, value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
    /// Time that answers are waited for after the last request was due
    #[arg(long, value_parser = duration, default_value = "10s")]
    pub grace: Duration,
}

/// Where the report goes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Report")]
pub struct OutputArgs {
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as a page that stands alone
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Show neither progress nor table
    #[arg(long)]
    pub quiet: bool,
}

impl RunArgs {
    /// Checks what the parser cannot.
    ///
    /// # Errors
    /// A setting of streams without streams, or a parameter that another setting sets.
    pub fn check(&self) -> anyhow::Result<()> {
        let of_streams = self.limits.streams.is_some() || self.limits.completion_order;
        ensure!(
            self.mode == Mode::Stream || !of_streams,
            "--streams and --completion-order say how streams are used; add --mode stream, or leave them out"
        );
        let mut parameters = self.payload.parameters.iter();
        ensure!(
            self.mode != Mode::Stream || parameters.all(|parameter| parameter.name != TIMEOUT),
            "on streams the server is told of --timeout, which --param {TIMEOUT} would contradict; say it there, \
             with its unit, as in --timeout 50ms"
        );
        Ok(())
    }

    /// Returns the time that is measured, or `None` where a number of requests ends the run.
    pub fn duration(&self) -> Option<Duration> {
        match (self.load.duration, self.load.requests) {
            (None, None) => Some(DURATION),
            (duration, _) => duration,
        }
    }

    /// Returns the requests allowed in flight.
    pub fn max_in_flight(&self) -> usize {
        match self.load.concurrency {
            Some(concurrency) => concurrency,
            None => self.limits.max_in_flight.unwrap_or(MAX_IN_FLIGHT),
        }
    }

    /// Returns the number of connections.
    pub fn connections(&self) -> usize {
        let default = || self.max_in_flight().div_ceil(PER_CONNECTION);
        self.limits.connections.unwrap_or_else(default)
    }

    /// Returns the number of streams, or `None` in unary mode.
    pub fn streams(&self) -> Option<usize> {
        match self.mode {
            Mode::Unary => None,
            Mode::Stream => Some(self.limits.streams.unwrap_or_else(|| self.connections())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RunArgs, clap::Error> {
        let words = ["loadgen", "run", "--model", "m"]
            .into_iter()
            .chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Run(args) => *args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_load_is_either_open_or_closed() {
        assert!(parse("").is_err());
        assert!(parse("--rate 5 --concurrency 2").is_err());
        assert!(parse("--rate 5 --sequences").is_err());
        assert!(parse("--concurrency 0").is_err());
        assert!(parse("--concurrency 4 --sequences").is_ok());
    }

    #[test]
    fn settings_of_streams_need_streams() {
        for line in ["--streams 2", "--completion-order"] {
            let unary = parse(&format!("--rate 5 {line}")).unwrap();
            assert!(
                unary
                    .check()
                    .unwrap_err()
                    .to_string()
                    .contains("--mode stream")
            );
            let streams = parse(&format!("--rate 5 --mode stream {line}")).unwrap();
            streams.check().unwrap();
        }
    }

    #[test]
    fn there_is_one_way_to_say_how_long_an_answer_may_take() {
        let check = |arguments: &str| parse(&format!("--rate 5 {arguments}")).unwrap().check();
        let error = check("--mode stream --param timeout=50000").unwrap_err();
        assert!(error.to_string().contains("--timeout 50ms"), "{error}");
        check("--mode stream --timeout 50ms --param priority=1").unwrap();
        // The call has a deadline of its own there.
        check("--mode unary --param timeout=50000").unwrap();
    }

    #[test]
    fn defaults_follow_from_what_is_given() {
        let open = parse("--rate 5").unwrap();
        assert_eq!((open.max_in_flight(), open.connections()), (1000, 10));
        assert_eq!((open.duration(), open.streams()), (Some(DURATION), None));
        let closed = parse("--concurrency 101 --mode stream --requests 40").unwrap();
        assert_eq!((closed.max_in_flight(), closed.connections()), (101, 2));
        assert_eq!((closed.duration(), closed.streams()), (None, Some(2)));
    }
}
