//! In which order a ladder is climbed. Pure.
//!
//! Invariant: whatever changes slowly on the machine, its heat or its neighbours, meets every
//! column alike: no column has a second turn at a batch size before each has had its first, and who
//! goes first changes with each repetition.

/// One turn: requests sent at once to one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Which repetition, from 0; a ladder's first is its run-in.
    pub(super) repetition: usize,
    /// Which row, from 0.
    pub(super) row: usize,
    /// Which column, from 0.
    pub(super) column: usize,
}

/// Returns all turns, in order.
pub(super) fn turns(repetitions: usize, rows: usize, columns: usize) -> impl Iterator<Item = Turn> {
    (0..repetitions).flat_map(move |repetition| {
        (0..rows).flat_map(move |row| {
            (0..columns).map(move |place| Turn {
                repetition,
                row,
                column: (place + repetition) % columns,
            })
        })
    })
}

/// Drops what a limit left uneven: of each row, the repetitions that not every column completed, so
/// that all figures of a row are of the same times.
pub(super) fn even_out<T>(rows: usize, columns: &mut [&mut Vec<Vec<T>>]) {
    for row in 0..rows {
        let lengths = columns.iter().map(|column| column[row].len());
        let all = lengths.min().unwrap_or(0);
        for column in &mut *columns {
            column[row].truncate(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_the_repetitions_that_every_column_completed() {
        let mut first = vec![vec![1, 2, 3], vec![4]];
        let mut second = vec![vec![5, 6], vec![]];
        even_out(2, &mut [&mut first, &mut second]);
        assert_eq!(first, [vec![1, 2], vec![]]);
        assert_eq!(second, [vec![5, 6], vec![]]);
    }

    #[test]
    fn columns_take_turns_and_the_first_place_too() {
        let turns: Vec<_> = turns(3, 2, 3).collect();
        assert_eq!(turns.len(), 18);
        for (index, chunk) in turns.chunks(3).enumerate() {
            assert!(chunk.iter().all(|turn| turn.repetition == index / 2));
            assert!(chunk.iter().all(|turn| turn.row == index % 2));
            let mut columns: Vec<_> = chunk.iter().map(|turn| turn.column).collect();
            assert_eq!(columns[0], index / 2);
            columns.sort_unstable();
            assert_eq!(columns, [0, 1, 2]);
        }
    }

    #[test]
    fn without_columns_there_are_no_turns() {
        assert_eq!(turns(3, 2, 0).count(), 0);
    }
}
