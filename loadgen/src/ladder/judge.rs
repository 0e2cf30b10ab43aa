//! Which column is best at each batch size, and whether `auto` keeps up. Pure.

use serde::{Deserialize, Serialize};

use super::{Cell, ColumnReport, State};

/// The column that is held against the others.
pub(super) const AUTO: &str = "auto";

/// The part of the best that it must reach.
const WITHIN: f64 = 0.98;

/// The part of what client and network can carry above which they, too, are measured.
pub(super) const CLEAR_OF_TRANSPORT: f64 = 0.5;

/// What one batch size says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The batch size.
    pub batch: u32,
    /// The column with the highest mean throughput, and that throughput.
    pub best: Option<(String, f64)>,
    /// Throughput of `auto` over the best.
    pub auto_of_best: Option<f64>,
    /// Repetitions that each figure is of.
    #[serde(default)]
    pub repetitions: usize,
    /// Whether every column is so near to what client and network carry that nothing is shown.
    #[serde(default)]
    pub near_floor: bool,
    /// Whether `auto` is the best or within 2 % of it, no request failed, and this is shown.
    pub passes: bool,
    /// What stands in the way.
    pub faults: Vec<String>,
}

/// Judges one row. A column that is not served cannot win, and is no fault: unless it is `auto`.
pub(super) fn judge(
    row: usize,
    batch: u32,
    columns: &[ColumnReport],
    floor: &ColumnReport,
) -> Judgement {
    let mut faults = Vec::new();
    let mut repetitions = 0;
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
        repetitions = throughput.n;
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
    let near_floor = near_floor(row, columns, floor);
    Judgement {
        batch,
        best,
        auto_of_best,
        repetitions,
        near_floor,
        passes: faults.is_empty() && !near_floor,
        faults,
    }
}

/// Returns whether there are figures, and client and network bound each of them.
fn near_floor(row: usize, columns: &[ColumnReport], floor: &ColumnReport) -> bool {
    let mean = |cell: &Cell| cell.samples_per_s.map(|spread| spread.mean);
    let Some(ceiling) = floor.cell(row).and_then(mean) else {
        return false;
    };
    let means = columns.iter().filter_map(|column| mean(column.cell(row)?));
    let slowest = means.reduce(f64::min);
    slowest.is_some_and(|slowest| slowest > CLEAR_OF_TRANSPORT * ceiling)
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
        let judged = |auto| {
            let columns = [column("a", Some(100.0), 0), column(AUTO, auto, 0)];
            judge(0, 8, &columns, &absent("floor"))
        };
        assert!(judged(Some(98.0)).passes && judged(Some(120.0)).passes);
        assert!(!judged(Some(97.9)).passes);
        assert_eq!(judged(Some(97.9)).best, Some(("a".to_owned(), 100.0)));
        assert!(!judged(None).passes);
    }

    #[test]
    fn without_auto_nothing_passes() {
        let judged = judge(
            0,
            8,
            &[column("a", Some(1.0), 0), absent(AUTO)],
            &absent("floor"),
        );
        assert_eq!((judged.passes, judged.auto_of_best), (false, None));
        let columns = [absent("a"), column(AUTO, Some(1.0), 0)];
        assert!(judge(0, 8, &columns, &absent("floor")).passes);
    }

    #[test]
    fn a_column_with_failures_does_not_win_and_is_told() {
        let columns = [column("a", Some(500.0), 1), column(AUTO, Some(1.0), 0)];
        let judged = judge(0, 8, &columns, &absent("floor"));
        assert_eq!(judged.best, Some((AUTO.to_owned(), 1.0)));
        assert_eq!(judged.faults, ["a: 1 requests failed"]);
        assert!(!judged.passes);
    }

    #[test]
    fn where_the_network_bounds_every_column_nothing_is_shown() {
        let judged = |slowest| {
            let columns = [
                column("a", Some(slowest), 0),
                absent("b"),
                column(AUTO, Some(90.0), 0),
            ];
            judge(0, 8, &columns, &column("floor", Some(100.0), 0))
        };
        let bounded = judged(89.0);
        assert!(bounded.near_floor && !bounded.passes && bounded.faults.is_empty());
        let clear = judged(50.0);
        assert!(!clear.near_floor && clear.passes, "{clear:?}");
    }
}
