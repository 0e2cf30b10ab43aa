//! `loadgen spill-bench`.

use std::{path::PathBuf, str::FromStr};

use bytesize::ByteSize;
use clap::Args;
use forebay_spill::Choice;

use super::positive;

/// What a store is measured with.
#[derive(Debug, Clone, Args)]
pub struct SpillArgs {
    /// A folder on the disk; nothing stays in it
    #[arg(long)]
    pub dir: PathBuf,
    /// Sizes of the tensors
    #[arg(
        long,
        value_name = "BYTES",
        value_delimiter = ',',
        default_value = "4KiB,256KiB,4MiB,64MiB",
        value_parser = bytes
    )]
    pub sizes: Vec<usize>,
    /// Rounds of each size
    #[arg(long, value_name = "N", value_parser = positive, default_value = "5")]
    pub rounds: usize,
    /// Tensors on their way at once, up to 128 MiB; small ones in larger groups, unless it is 1
    #[arg(long, value_name = "N", value_parser = positive, default_value = "128")]
    pub depth: usize,
    /// Bytes that each round moves each way
    #[arg(long, value_name = "BYTES", default_value = "512MiB", value_parser = bytes)]
    pub total: usize,
    /// What does the I/O: auto, io_uring or psync
    #[arg(long, default_value = "auto", value_parser = Choice::from_str)]
    pub engine: Choice,
    /// Encrypt what is on the disk
    #[arg(long)]
    pub encrypt: bool,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Reads a size with its unit, such as `256KiB`.
fn bytes(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.parse()?;
    match usize::try_from(size.as_u64()) {
        Ok(bytes @ 1..) => Ok(bytes),
        _ => Err("at least 1 byte is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    #[test]
    fn sizes_have_units_and_are_not_empty() {
        let parse = |line: &str| {
            let words = ["loadgen", "spill-bench", "--dir", "d"].into_iter();
            Cli::try_parse_from(words.chain(line.split_whitespace())).map(|cli| match cli.command {
                Command::SpillBench(args) => args.sizes,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(parse("").unwrap(), [4 << 10, 256 << 10, 4 << 20, 64 << 20]);
        assert_eq!(parse("--sizes 1MiB,5").unwrap(), [1 << 20, 5]);
        assert!(parse("--sizes 0").is_err());
        assert!(parse("--engine tape").is_err());
    }
}
