//! Which column is best at each batch size, and whether `auto` keeps up. Pure.

use serde::{Deserialize, Serialize};

use super::{ColumnReport, State};

/// The column that is held against the others.
pub(super) const AUTO: &str = "auto";

/// The part of the best that it must reach.
const WITHIN: f64 = 0.98;

/// What one batch size says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The batch size.
    pub batch: u32,
    /// The column with the highest mean throughput, and that throughput.
    pub best: Option<(String, f64)>,
    /// Throughput of `auto` over the best.
    pub auto_of_best: Option<f64>,
    /// Whether `auto` is the best or within 2 % of it, and no request failed.
    pub passes: bool,
    /// What stands in the way.
    pub faults: Vec<String>,
}

/// Judges one row. A column that is not served cannot win, and is no fault: unless it is `auto`.
pub(super) fn judge(row: usize, batch: u32, columns: &[ColumnReport]) -> Judgement {
    let mut faults = Vec::new();
    let mut best: Option<(String, f64)> = None;
    let mut auto = None;
    for column in columns {
        let State::Measured { rows } = &column.state else {
            continue;
        };
        let cell = &rows[row].cell;
        if cell.failed > 0 {
            faults.push(format!("{}: {} requests failed", column.label, cell.failed));
            continue;
        }
        let Some(throughput) = cell.samples_per_s else {
            faults.push(format!("{}: nothing was measured", column.label));
            continue;
        };
        if column.label == AUTO {
            auto = Some(throughput.mean);
        }
        if best
            .as_ref()
            .is_none_or(|(_, most)| throughput.mean > *most)
        {
            best = Some((column.label.clone(), throughput.mean));
        }
    }
    let auto_of_best = auto.zip(best.as_ref()).map(|(auto, (_, most))| auto / most);
    match auto_of_best {
        None => faults.push(format!("there is no figure for {AUTO}")),
        Some(part) if part < WITHIN => {
            faults.push(format!("{AUTO} reaches {part:.3} of the best"));
        }
        Some(_) => {}
    }
    Judgement {
        batch,
        best,
        auto_of_best,
        passes: faults.is_empty(),
        faults,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::{Cell, RowReport, Spread};

    fn column(label: &str, samples_per_s: Option<f64>, failed: u64) -> ColumnReport {
        let cell = Cell {
            samples_per_s: samples_per_s.and_then(|one| Spread::of(&[one])),
            failed,
            ..Cell::default()
        };
        ColumnReport {
            label: label.to_owned(),
            model: label.to_owned(),
            state: State::Measured {
                rows: vec![RowReport { batch: 8, cell }],
            },
        }
    }

    fn absent(label: &str) -> ColumnReport {
        ColumnReport {
            label: label.to_owned(),
            model: label.to_owned(),
            state: State::Absent {
                reason: "not loaded".to_owned(),
            },
        }
    }

    #[test]
    fn auto_may_be_two_percent_behind_and_no_more() {
        let judged = |auto| judge(0, 8, &[column("a", Some(100.0), 0), column(AUTO, auto, 0)]);
        assert!(judged(Some(98.0)).passes && judged(Some(120.0)).passes);
        assert!(!judged(Some(97.9)).passes);
        assert_eq!(judged(Some(97.9)).best, Some(("a".to_owned(), 100.0)));
        assert!(!judged(None).passes);
    }

    #[test]
    fn without_auto_nothing_passes() {
        let judged = judge(0, 8, &[column("a", Some(1.0), 0), absent(AUTO)]);
        assert_eq!((judged.passes, judged.auto_of_best), (false, None));
        assert!(judge(0, 8, &[absent("a"), column(AUTO, Some(1.0), 0)]).passes);
    }

    #[test]
    fn a_column_with_failures_does_not_win_and_is_told() {
        let columns = [column("a", Some(500.0), 1), column(AUTO, Some(1.0), 0)];
        let judged = judge(0, 8, &columns);
        assert_eq!(judged.best, Some((AUTO.to_owned(), 1.0)));
        assert_eq!(judged.faults, ["a: 1 requests failed"]);
        assert!(!judged.passes);
    }
}
