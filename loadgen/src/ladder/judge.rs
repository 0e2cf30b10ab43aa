//! Which column is best at each batch size, and whether `auto` keeps up. Pure.

use serde::{Deserialize, Serialize};

use super::{Cell, ColumnReport, Spread};

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
    /// The column with the highest mean throughput, and that throughput, of those with the platform
    /// of `auto`: what it could have chosen.
    pub best: Option<(String, f64)>,
    /// Throughput of `auto` over that.
    pub auto_of_best: Option<f64>,
    /// The same of all columns. A package that another compiler made is another model: told, not
    /// judged.
    pub best_of_all: Option<(String, f64)>,
    /// Throughput of `auto` over that.
    pub auto_of_all: Option<f64>,
    /// Repetitions that each figure is of.
    #[serde(default)]
    pub repetitions: usize,
    /// Whether every column of the platform is so near to what client and network carry that nothing
    /// is shown.
    #[serde(default)]
    pub near_floor: bool,
    /// Whether `auto` is the best of its platform or within 2 % of it, there are others to tell that
    /// by, no request to the platform failed, and this is shown.
    pub passes: bool,
    /// Whether there is nothing to hold `auto` against.
    #[serde(default)]
    pub alone: bool,
    /// What stands in the way.
    pub faults: Vec<String>,
    /// What is wrong with the other columns, which stands in nobody's way.
    #[serde(default)]
    pub beside: Vec<String>,
}

/// Judges one row. A column that is not served cannot win, and is no fault: unless it is `auto`, or
/// nothing is left to hold that against.
pub(super) fn judge(
    row: usize,
    batch: u32,
    columns: &[ColumnReport],
    floor: &ColumnReport,
) -> Judgement {
    let auto = columns.iter().find(|column| column.label == AUTO);
    let auto = auto.and_then(|column| Some((&column.platform, throughput(row, column)?)));
    let is_alike =
        |column: &&ColumnReport| auto.is_none_or(|(platform, _)| column.platform == *platform);
    let (alike, others): (Vec<_>, Vec<_>) = columns.iter().partition(is_alike);
    let best = fastest(row, alike.iter().copied());
    let best_of_all = fastest(row, columns);
    let part = |best: &Option<(String, f64)>| Some(auto?.1.mean / best.as_ref()?.1);
    let (auto_of_best, auto_of_all) = (part(&best), part(&best_of_all));
    let beside = others.iter().filter_map(|one| fault(row, one)).collect();
    let mut faults: Vec<_> = alike.iter().filter_map(|one| fault(row, one)).collect();
    let mut rivals = alike.iter().filter(|column| column.label != AUTO);
    let has_rival = rivals.any(|column| throughput(row, column).is_some());
    // Where its rivals failed, that is told already.
    let alone = auto_of_best.is_some() && !has_rival && faults.is_empty();
    match auto_of_best {
        None => faults.push(format!("there is no figure for {AUTO}")),
        Some(part) if part < WITHIN => {
            faults.push(format!("{AUTO} reaches {part:.3} of the best"));
        }
        Some(_) if alone => {
            faults.push(format!("there is no other figure to hold {AUTO} against"));
        }
        Some(_) => {}
    }
    let near_floor = near_floor(row, &alike, floor);
    let mut measured = columns.iter().filter_map(|one| throughput(row, one));
    Judgement {
        batch,
        best,
        auto_of_best,
        best_of_all,
        auto_of_all,
        repetitions: measured.next().map_or(0, |spread| spread.n),
        near_floor,
        passes: faults.is_empty() && !near_floor,
        alone,
        faults,
        beside,
    }
}

/// Returns the throughput of a column, unless a request failed.
fn throughput(row: usize, column: &ColumnReport) -> Option<Spread> {
    let cell = column.cell(row)?;
    cell.samples_per_s.filter(|_| cell.failed == 0)
}

/// Returns what is wrong with the figures of a column that is served.
fn fault(row: usize, column: &ColumnReport) -> Option<String> {
    let (label, cell) = (&column.label, column.cell(row)?);
    match cell.failed {
        0 if cell.samples_per_s.is_some() => None,
        0 => Some(format!("{label}: nothing was measured")),
        failed => Some(format!("{label}: {failed} requests failed")),
    }
}

/// Returns the label and the mean throughput of the fastest column, the first of equals.
fn fastest<'a>(
    row: usize,
    columns: impl IntoIterator<Item = &'a ColumnReport>,
) -> Option<(String, f64)> {
    let mut best: Option<(&str, f64)> = None;
    for column in columns {
        if let Some(Spread { mean, .. }) = throughput(row, column)
            && best.is_none_or(|(_, most)| mean > most)
        {
            best = Some((column.label.as_str(), mean));
        }
    }
    best.map(|(label, mean)| (label.to_owned(), mean))
}

/// Returns whether there are figures, and client and network bound each of them.
fn near_floor(row: usize, columns: &[&ColumnReport], floor: &ColumnReport) -> bool {
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
    use crate::ladder::{RowReport, State};

    fn column(label: &str, samples_per_s: Option<f64>, failed: u64) -> ColumnReport {
        let cell = Cell {
            samples_per_s: samples_per_s.and_then(|one| Spread::of(&[one])),
            failed,
            ..Cell::default()
        };
        ColumnReport {
            label: label.to_owned(),
            model: label.to_owned(),
            platform: String::new(),
            state: State::Measured {
                rows: vec![RowReport { batch: 8, cell }],
            },
        }
    }

    fn absent(label: &str) -> ColumnReport {
        ColumnReport {
            label: label.to_owned(),
            model: label.to_owned(),
            platform: String::new(),
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
    fn auto_is_judged_by_its_own_platform_and_told_of_the_others() {
        let other = ColumnReport {
            platform: "torch_aoti".to_owned(),
            ..column(".pt2", Some(200.0), 0)
        };
        let columns = [
            other,
            column("a", Some(101.0), 0),
            column(AUTO, Some(100.0), 0),
        ];
        let judged = judge(0, 8, &columns, &column("floor", Some(1000.0), 0));
        assert_eq!(judged.best, Some(("a".to_owned(), 101.0)));
        assert_eq!(judged.best_of_all, Some((".pt2".to_owned(), 200.0)));
        assert_eq!(judged.auto_of_best, Some(100.0 / 101.0));
        assert_eq!(judged.auto_of_all, Some(0.5));
        assert!(judged.passes, "{judged:?}");
        // The package is far enough from the ceiling, but it is not what is judged.
        let bounded = judge(0, 8, &columns[1..], &column("floor", Some(120.0), 0));
        assert!(bounded.near_floor && !bounded.passes);
        let [mut slow, ..] = columns.clone();
        slow.state = column("", Some(1.0), 0).state;
        let columns = [slow, columns[1].clone(), columns[2].clone()];
        assert!(judge(0, 8, &columns, &column("floor", Some(120.0), 0)).near_floor);
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
    }

    #[test]
    fn with_nothing_to_hold_auto_against_nothing_passes() {
        let package = ColumnReport {
            platform: "torch_aoti".to_owned(),
            ..column("a", Some(1.0), 0)
        };
        for other in [absent("a"), package] {
            let columns = [other, column(AUTO, Some(1.0), 0)];
            let judged = judge(0, 8, &columns, &absent("floor"));
            assert_eq!((judged.passes, judged.auto_of_best), (false, Some(1.0)));
            assert_eq!(
                judged.faults,
                ["there is no other figure to hold auto against"]
            );
        }
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
    fn failures_of_another_platform_are_told_and_not_judged() {
        let other = ColumnReport {
            platform: "torch_aoti".to_owned(),
            ..column(".pt2", Some(500.0), 2)
        };
        let columns = [other, column("a", Some(0.9), 0), column(AUTO, Some(1.0), 0)];
        let judged = judge(0, 8, &columns, &absent("floor"));
        assert!(judged.passes && judged.faults.is_empty(), "{judged:?}");
        assert_eq!(judged.beside, [".pt2: 2 requests failed"]);
        assert_eq!(judged.best_of_all, Some((AUTO.to_owned(), 1.0)));
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
