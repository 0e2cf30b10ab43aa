//! Figures that others published, to stand next to ours.
//!
//! ResNet-18, FP32, input `[B, 3, 250, 250]`, 100 requests sent at once after one for warm-up,
//! samples per second, mean of ten runs, on one GPU that is not this machine's: PyTorch's
//! `benchmarks/inference` (pull requests 115286, 116188, 116189, 116190). Shapes of the columns can
//! be compared, absolute figures cannot.

/// One row of the published table.
struct Row {
    batch: u32,
    /// Baseline, copy threads, then 2, 3 and 4 workers.
    samples_per_s: [f64; 5],
}

const ROWS: [Row; 5] = [
    Row {
        batch: 1,
        samples_per_s: [168.8, 127.4, 186.5, 168.9, 110.2],
    },
    Row {
        batch: 32,
        samples_per_s: [394.2, 287.2, 335.0, 402.2, 296.3],
    },
    Row {
        batch: 64,
        samples_per_s: [460.5, 393.4, 441.6, 467.2, 430.7],
    },
    Row {
        batch: 128,
        samples_per_s: [518.9, 551.9, 636.7, 677.7, 638.1],
    },
    Row {
        batch: 256,
        samples_per_s: [573.0, 704.3, 864.7, 912.4, 951.3],
    },
];

/// The columns' labels here, in the order of [`Row::samples_per_s`].
const LABELS: [&str; 5] = [
    "inline",
    "copy stages",
    "workers 2",
    "workers 3",
    "workers 4",
];

/// Returns the samples per second that were published for the column `label`.
pub(super) fn samples_per_s(label: &str, batch: u32) -> Option<f64> {
    let row = ROWS.iter().find(|row| row.batch == batch)?;
    let column = LABELS.iter().position(|known| *known == label)?;
    Some(row.samples_per_s[column])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_label_and_batch() {
        assert_eq!(samples_per_s("inline", 1), Some(168.8));
        assert_eq!(samples_per_s("workers 4", 256), Some(951.3));
        assert_eq!(samples_per_s("auto", 1), None);
        assert_eq!(samples_per_s("inline", 2), None);
    }
}
