//! Micro-batches: which batches may be cut, and where. Pure.
//!
//! The pieces of a batch follow one another through the streams, so that the copies of one overlap
//! the pass of another. Rows may be cut where the model says that they are independent
//! (`dynamic_batching`) and where a row's bytes are known beforehand.

use std::{fmt, num::NonZeroUsize, ops::Range, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Context;

/// Whether batches are cut into pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MicroBatches {
    /// A batch on its own is cut where that is measured to be faster.
    #[default]
    Auto,
    /// No batch is cut.
    Off,
    /// Batches with so many rows or more are cut into so many pieces.
    Pieces(NonZeroUsize),
}

/// A text that names no way to cut batches.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is neither auto, off nor a number of pieces")]
pub struct UnknownMicroBatches(String);

impl FromStr for MicroBatches {
    type Err = UnknownMicroBatches;

    fn from_str(text: &str) -> Result<Self, UnknownMicroBatches> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            number => number
                .parse()
                .map(Self::Pieces)
                .map_err(|_| UnknownMicroBatches(text.to_owned())),
        }
    }
}

impl Serialize for MicroBatches {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_str("off"),
            Self::Pieces(pieces) => pieces.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MicroBatches {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = MicroBatches;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"auto\", \"off\" or a number of pieces")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MicroBatches, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<MicroBatches, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<MicroBatches, E> {
        self.visit_str(&number.to_string())
    }
}

/// Returns whether batches of a model may be cut, given that its rows are independent.
pub(super) fn may_cut(context: &Context) -> bool {
    let signature = &context.signature;
    let mut specs = signature.inputs.iter().chain(&signature.outputs);
    signature.max_batch_size > 0
        && !context.host_inputs.contains(&true)
        && specs.all(|spec| spec.datatype.size().is_some())
        // Of an output whose size depends on the batch, pieces could have different sizes.
        && signature.outputs.iter().all(|output| !output.dims.contains(&-1))
}

/// Cuts the rows of jobs, given one after the other, into `pieces` ranges that are about as long. A
/// range ends with a job where one ends nearby, so that its outputs need not be joined again.
pub(super) fn cut(jobs: impl Iterator<Item = usize> + Clone, pieces: usize) -> Vec<Range<usize>> {
    let rows: usize = jobs.clone().sum();
    let pieces = pieces.clamp(1, rows.max(1));
    let nearby = rows / pieces / 8;
    let ends = jobs.scan(0, |end, rows| {
        *end += rows;
        Some(*end)
    });
    let mut start = 0;
    let mut ranges = Vec::with_capacity(pieces);
    for piece in 1..=pieces {
        let even = rows * piece / pieces;
        let nearest = ends.clone().min_by_key(|end| end.abs_diff(even));
        let end = nearest
            .filter(|end| piece < pieces && end.abs_diff(even) <= nearby)
            .unwrap_or(even);
        if end > start {
            ranges.push(start..end);
            start = end;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_rows_and_are_about_as_long() {
        for rows in 1..70 {
            for pieces in 1..10 {
                let ranges = cut([rows].into_iter(), pieces);
                assert_eq!(ranges.len(), pieces.min(rows));
                let lengths = ranges.iter().map(ExactSizeIterator::len);
                let (least, most) = (lengths.clone().min(), lengths.clone().max());
                assert!(most.unwrap() - least.unwrap() <= 1, "{ranges:?}");
                assert_eq!(lengths.sum::<usize>(), rows);
                assert!(ranges.is_sorted_by(|a, b| a.end == b.start));
            }
        }
    }

    #[test]
    fn a_piece_ends_with_a_job_where_one_ends_nearby() {
        assert_eq!(cut([33, 31].into_iter(), 2), [0..33, 33..64]);
        assert_eq!(cut([40, 24].into_iter(), 2), [0..32, 32..64]);
        assert_eq!(cut([1; 8].into_iter(), 4), [0..2, 2..4, 4..6, 6..8]);
    }

    #[test]
    fn settings_are_read_and_written() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Section {
            cut: MicroBatches,
        }
        let pieces = MicroBatches::Pieces(NonZeroUsize::new(4).unwrap());
        for (text, cut) in [
            ("cut = 'auto'", MicroBatches::Auto),
            ("cut = 'off'", MicroBatches::Off),
            ("cut = 4", pieces),
            ("cut = '4'", pieces),
        ] {
            let figment =
                figment::Figment::from(figment::providers::Serialized::defaults(Section {
                    cut: MicroBatches::Off,
                }));
            let toml = <figment::providers::Toml as figment::providers::Format>::string(text);
            let read: Section = figment.merge(toml).extract().unwrap();
            assert_eq!(read, Section { cut });
        }
        for wrong in ["0", "some", "-1", ""] {
            let error = wrong.parse::<MicroBatches>().unwrap_err().to_string();
            assert!(error.contains("a number of pieces"), "{error}");
        }
    }
}
