//! The options of `cargo xtask bench peers`, and what they choose.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;

use super::{
    Peer,
    cell::{Cell, named},
    rounds::Length,
};

/// The options of this benchmark alone.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of `bench peers`")]
pub(crate) struct Options {
    /// Hold Forebay against this peer only; may be given again
    #[arg(long, value_enum, value_name = "PEER")]
    peer: Vec<Peer>,
    /// Run only cells with this in their names, such as mlp-stream or c64; may be given again
    #[arg(long, value_name = "NAME")]
    cell: Vec<String>,
    /// Rounds, in each of which every contestant runs once [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Seconds of a run that are measured, for models that are not slow [default: 3]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u16).range(1..))]
    seconds: Option<u16>,
    /// Let client and server both use both cores, instead of one each
    #[arg(long)]
    pub(super) share_cores: bool,
    /// Write the figures to FILE
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

/// The cells that were chosen, in the order of the table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Those that a peer can be run in.
    pub(super) run: Vec<Cell>,
    /// Those that none can, and why.
    pub(super) left_out: Vec<(Cell, &'static str)>,
}

impl Options {
    /// Returns whether any of them was given.
    pub(crate) fn are_given(&self) -> bool {
        let Self {
            peer,
            cell,
            rounds,
            seconds,
            share_cores,
            json,
        } = self;
        let lists = !peer.is_empty() || !cell.is_empty();
        lists || *share_cores || rounds.is_some() || seconds.is_some() || json.is_some()
    }

    /// Returns the peers that were chosen.
    pub(super) fn peers(&self) -> Vec<Peer> {
        let chosen = |peer: &Peer| self.peer.is_empty() || self.peer.contains(peer);
        Peer::ALL.into_iter().filter(chosen).collect()
    }

    /// Returns the cells that were chosen.
    ///
    /// # Errors
    /// A name that is in no cell's.
    pub(super) fn cells(&self, peers: &[Peer]) -> Result<Chosen> {
        let mut chosen = Vec::new();
        for wanted in &self.cell {
            let found = named(wanted);
            ensure!(
                !found.is_empty(),
                "no cell has {wanted} in its name; they look like mlp-stream-c64-batched"
            );
            chosen.extend(found);
        }
        let mut cells = Chosen::default();
        for cell in Cell::all() {
            if !self.cell.is_empty() && !chosen.contains(&cell) {
                continue;
            }
            match peers
                .iter()
                .map(|peer| peer.applies(cell))
                .reduce(Result::or)
            {
                None | Some(Ok(())) => cells.run.push(cell),
                Some(Err(why)) => cells.left_out.push((cell, why)),
            }
        }
        Ok(cells)
    }

    /// Returns how often and how long.
    pub(super) fn length(&self) -> Length {
        Length {
            rounds: self.rounds.unwrap_or(5).into(),
            window: Duration::from_secs(self.seconds.unwrap_or(3).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn chosen(line: &str) -> Result<Chosen> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        let options = Line::parse_from(words).options;
        options.cells(&options.peers())
    }

    #[test]
    fn every_cell_is_run_or_left_out_for_a_reason() {
        let all = chosen("").unwrap();
        assert_eq!((all.run.len(), all.left_out.len()), (60, 0));
        let echo = chosen("--peer echo").unwrap();
        assert_eq!((echo.run.len(), echo.left_out.len()), (12, 48));
        let two = chosen("--peer echo --peer grpc-aio --cell c64").unwrap();
        assert_eq!((two.run.len(), two.left_out.len()), (10, 10));
    }

    #[test]
    fn a_name_that_is_in_no_cells_is_refused() {
        let error = chosen("--cell mlp-c64").unwrap_err().to_string();
        assert!(error.starts_with("no cell has mlp-c64"), "{error}");
    }

    #[test]
    fn options_that_were_given_are_seen() {
        let given = |line| Line::parse_from(["bench", line]).options.are_given();
        assert!(given("--rounds=1") && given("--peer=echo") && given("--json=x"));
        assert!(!Line::parse_from(["bench"]).options.are_given());
    }
}
