//! What is measured: a model, how requests travel, how many are in flight, and whether the server
//! joins them to batches.
//!
//! Invariant: a cell's name says all of it, and no two cells have the same.

use std::{fmt, time::Duration};

/// A model that every peer serves from the same TorchScript file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Model {
    Identity,
    Mlp,
    ResNet18,
    Encoder,
}

impl Model {
    pub(crate) const ALL: [Self; 4] = [Self::Identity, Self::Mlp, Self::ResNet18, Self::Encoder];

    /// Returns the name of the fixture that it is, and of its folder where it is served.
    pub(crate) fn fixture(self) -> &'static str {
        match self {
            Self::Identity => "identity_fp32",
            Self::Mlp => "mlp",
            Self::ResNet18 => "resnet18",
            Self::Encoder => "encoder",
        }
    }

    /// Returns the dimensions of its input without the batch; -1 takes any size.
    pub(crate) fn dims(self) -> &'static [i64] {
        match self {
            Self::Identity => &[-1],
            Self::Mlp => &[784],
            Self::ResNet18 => &[3, 224, 224],
            Self::Encoder => &[128],
        }
    }

    /// Returns the elements of a row of its output; -1 for any number.
    pub(crate) fn outputs(self) -> i64 {
        match self {
            Self::Identity => -1,
            Self::Mlp => 10,
            Self::ResNet18 => 1000,
            Self::Encoder => 256,
        }
    }

    /// Returns whether its input holds INT64 instead of FP32.
    pub(crate) fn takes_tokens(self) -> bool {
        self == Self::Encoder
    }

    /// Returns the rows of the largest batch.
    pub(crate) fn most_rows(self) -> i64 {
        match self {
            Self::Identity | Self::Mlp => 64,
            Self::ResNet18 | Self::Encoder => 8,
        }
    }

    /// Returns the batch sizes that the bare loop runs at.
    pub(crate) fn batches(self) -> &'static [i64] {
        match self {
            Self::Identity | Self::Mlp => &[1, 2, 4, 8, 16, 32, 64],
            Self::ResNet18 | Self::Encoder => &[1, 2, 4, 8],
        }
    }
}

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    Identity4K,
    Identity1M,
    Mlp,
    ResNet18,
    Encoder,
}

impl Load {
    pub(crate) const ALL: [Self; 5] = [
        Self::Identity4K,
        Self::Identity1M,
        Self::Mlp,
        Self::ResNet18,
        Self::Encoder,
    ];

    pub(crate) fn model(self) -> Model {
        match self {
            Self::Identity4K | Self::Identity1M => Model::Identity,
            Self::Mlp => Model::Mlp,
            Self::ResNet18 => Model::ResNet18,
            Self::Encoder => Model::Encoder,
        }
    }

    /// Returns the elements of an input that the model leaves open.
    pub(crate) fn elements(self) -> Option<u32> {
        match self {
            Self::Identity4K => Some(1 << 10),
            Self::Identity1M => Some(1 << 18),
            Self::Mlp | Self::ResNet18 | Self::Encoder => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Identity4K => "identity-4k",
            Self::Identity1M => "identity-1m",
            Self::Mlp => "mlp",
            Self::ResNet18 => "resnet18",
            Self::Encoder => "encoder",
        }
    }
}

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Unary,
    Stream,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unary => "unary",
            Self::Stream => "stream",
        })
    }
}

/// One row of the table. With streams, there are as many as requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) load: Load,
    pub(crate) mode: Mode,
    pub(crate) concurrency: usize,
    pub(crate) batching: bool,
}

impl Cell {
    /// Returns every cell, in the order of the table.
    pub(crate) fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for load in Load::ALL {
            for mode in [Mode::Unary, Mode::Stream] {
                for concurrency in [1, 8, 64] {
                    for batching in [false, true] {
                        cells.push(Self {
                            load,
                            mode,
                            concurrency,
                            batching,
                        });
                    }
                }
            }
        }
        cells
    }

    /// Returns the folder of the model that the cell asks for.
    pub(crate) fn model(self) -> String {
        served(self.load.model(), self.batching)
    }

    /// Returns how long a run must be where `least` is enough for quick models: with 64 in flight,
    /// an answer of the slowest takes three seconds.
    pub(crate) fn window(self, least: Duration) -> Duration {
        match (self.load, self.concurrency) {
            (Load::ResNet18, 64) => least * 4,
            (Load::ResNet18, 8) => least * 2,
            _ => least,
        }
    }
}

/// Returns the name that `model` is served by.
pub(crate) fn served(model: Model, batching: bool) -> String {
    let suffix = if batching { "_batched" } else { "" };
    format!("{}{suffix}", model.fixture())
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (load, mode, concurrency) = (self.load.name(), self.mode, self.concurrency);
        write!(f, "{load}-{mode}-c{concurrency}")?;
        if self.batching {
            f.write_str("-batched")?;
        }
        Ok(())
    }
}

/// Returns the cell of the name `wanted`, or else those whose names have it as a part, as `mlp-stream`
/// and `c64` are; all of them for an empty text.
pub(crate) fn named(wanted: &str) -> Vec<Cell> {
    if let Some(cell) = Cell::all()
        .into_iter()
        .find(|cell| cell.to_string() == wanted)
    {
        return vec![cell];
    }
    let matches = |cell: &Cell| {
        let name = cell.to_string();
        let (name, wanted) = (format!("-{name}-"), format!("-{wanted}-"));
        wanted == "--" || name.contains(&wanted)
    };
    Cell::all().into_iter().filter(matches).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_cell_has_a_name_of_its_own() {
        let cells = Cell::all();
        assert_eq!(cells.len(), 5 * 2 * 3 * 2);
        let names: BTreeSet<_> = cells.iter().map(Cell::to_string).collect();
        assert_eq!(names.len(), cells.len());
    }

    #[test]
    fn parts_of_a_name_choose_the_cells_that_have_them() {
        assert_eq!(named("").len(), 60);
        assert_eq!(named("mlp-stream").len(), 6);
        // A whole name is no part of a longer one.
        assert_eq!(named("mlp-stream-c64").len(), 1);
        // No part of `c64`.
        assert_eq!(named("c6").len(), 0);
        assert_eq!(named("c8").len(), 20);
    }
}
