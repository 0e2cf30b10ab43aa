//! What a ladder is reported as.
//!
//! Invariant: the JSON holds every number that the table shows, unrounded. Its schema has a number;
//! a field that changes its meaning or goes away raises it, a new field does not.

use serde::{Deserialize, Serialize};

use super::{Cell, Judgement};

/// The schema's name and number.
pub const SCHEMA: &str = "forebay-ladder/2";

/// A ladder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The version of the load generator.
    pub tool_version: String,
    /// The server.
    pub endpoint: String,
    /// The devices that the server told of, at the start.
    pub devices: Vec<String>,
    /// Requests sent at once.
    pub requests: usize,
    /// Repetitions that were asked for.
    pub repetitions: usize,
    /// Streams that the requests were spread over.
    pub streams: usize,
    /// Seed of the payloads.
    pub seed: u64,
    /// Time that it took.
    pub took_s: f64,
    /// Why it ended before all repetitions, where it did.
    pub cut: Option<String>,
    /// Whether figures published elsewhere are of the same model and input.
    pub usual: bool,
    /// The batch sizes.
    pub batches: Vec<u32>,
    /// The configurations.
    pub columns: Vec<ColumnReport>,
    /// A model that does next to nothing: what client and network can carry.
    pub floor: ColumnReport,
    /// What each batch size says.
    pub judgements: Vec<Judgement>,
}

/// One configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnReport {
    /// What it is called.
    pub label: String,
    /// The model.
    pub model: String,
    /// What the server calls its kind, such as `pytorch_libtorch`; empty where it is not served.
    #[serde(default)]
    pub platform: String,
    /// Its figures.
    pub state: State,
}

/// Whether there are figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The server does not serve it.
    Absent {
        /// Why.
        reason: String,
    },
    /// It was measured, at every batch size in turn.
    Measured {
        /// One for each batch size.
        rows: Vec<RowReport>,
    },
}

/// One configuration at one batch size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowReport {
    /// The batch size.
    pub batch: u32,
    /// The figures.
    #[serde(flatten)]
    pub cell: Cell,
}

impl Report {
    /// Returns whether `auto` is the best of its platform or within 2 % of it at every batch size, by
    /// all repetitions that were asked for.
    pub fn passes(&self) -> bool {
        let mut judgements = self.judgements.iter();
        judgements.all(|one| one.passes && !self.falls_short(one))
    }

    /// Returns whether the ladder was cut before it had all repetitions of a judgement.
    pub(super) fn falls_short(&self, judgement: &Judgement) -> bool {
        self.cut.is_some() && judgement.repetitions < self.repetitions
    }
}

impl ColumnReport {
    /// Returns the figures at the `row`th batch size.
    pub fn cell(&self, row: usize) -> Option<&Cell> {
        match &self.state {
            State::Measured { rows } => rows.get(row).map(|row| &row.cell),
            State::Absent { .. } => None,
        }
    }
}
