//! A ladder as text: Markdown's tables, which a terminal shows as well.

use std::fmt;

use super::{
    Cell, ColumnReport, Judgement, Report, Source, State, judge::CLEAR_OF_TRANSPORT, published,
};

/// Shows a ladder as text.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a>(pub &'a Report);

const NONE: &str = "n/a";

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        head(f, report)?;
        throughput(f, report)?;
        details(f, report)?;
        absent(f, report)?;
        transport(f, report)?;
        judgements(f, report)
    }
}

fn head(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(
        f,
        "{} requests sent at once over {} streams after one for warm-up, {} repetitions after a run-in, at {}",
        report.requests, report.streams, report.repetitions, report.endpoint
    )?;
    for device in &report.devices {
        writeln!(f, "device {device}")?;
    }
    if let Some(cut) = &report.cut {
        writeln!(f, "cut short after {:.0} s: {cut}", report.took_s)?;
    }
    Ok(())
}

/// Samples per second: a row of ours, and where there is one, a row of what was published.
fn throughput(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(
        f,
        "\nSamples per second, n x batch / (last answer - first request), mean ± sd over repetitions:\n"
    )?;
    let labels = report.columns.iter().map(|column| column.label.clone());
    line(f, "batch", labels)?;
    line(f, "---", report.columns.iter().map(|_| "---:".to_owned()))?;
    for (row, batch) in report.batches.iter().enumerate() {
        let cells = report.columns.iter().map(|column| {
            let spread = column.cell(row).and_then(|cell| cell.samples_per_s);
            spread.map_or(NONE.to_owned(), |spread| match spread.sd {
                Some(sd) => format!("{:.1} ± {sd:.1}", spread.mean),
                None => format!("{:.1}", spread.mean),
            })
        });
        line(f, &batch.to_string(), cells)?;
        let published = |column: &ColumnReport| published::samples_per_s(&column.label, *batch);
        if report.usual && report.columns.iter().any(|one| published(one).is_some()) {
            let cells = report.columns.iter().map(published);
            let cells = cells.map(|one| one.map_or("-".to_owned(), |one| format!("{one:.1}")));
            line(f, "elsewhere", cells)?;
        }
    }
    if report.usual {
        writeln!(
            f,
            "\nRows \"elsewhere\": published for PyTorch's own benchmark (inline: its baseline; copy stages: its \
             copy threads) on another GPU; not comparable in absolute terms."
        )?;
    }
    Ok(())
}

fn details(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(
        f,
        "\nLatency in ms, from when all requests were due; percentiles over all repetitions, where there are \
         samples enough:\n"
    )?;
    let header = [
        "column",
        "n",
        "failed",
        "first",
        "warm-up",
        "mean",
        "p50",
        "p90",
        "p99",
        "utilisation",
        "overlap",
        "h2d / compute / d2h",
        "of bound",
        "pinned",
    ];
    line(f, "batch", header.map(str::to_owned).into_iter())?;
    line(f, "---", header.map(|_| "---:".to_owned()).into_iter())?;
    for (row, batch) in report.batches.iter().enumerate() {
        for column in &report.columns {
            if let Some(cell) = column.cell(row) {
                let cells = [column.label.clone()].into_iter().chain(figures(cell));
                line(f, &batch.to_string(), cells)?;
            }
        }
    }
    writeln!(
        f,
        "\nfirst: the very first request; warm-up: one request alone, mean over repetitions. The run-in, as \
         many requests once more before the first repetition, is in no other figure. Utilisation in \
         percent, by the device's driver from the second second on where requests took two at least, or (*) the \
         part of the pipelines' busy time in which a pass ran. \
         Overlap: stage times over busy time; the passes of several workers overlap one another without any \
         copy. Of bound: throughput over what the slowest stage allows to one worker, each stage by the smaller of \
         its times alone and under load, for an idle device runs at a lower clock. Pinned: slabs of page-locked \
         memory allocated meanwhile, in all repetitions / in the last. n: repetitions that all columns \
         completed."
    )
}

fn figures(cell: &Cell) -> [String; 13] {
    let utilisation = cell.utilisation.map(|told| match told.source {
        Source::Driver => format!("{:.1}", told.percent),
        Source::Computing => format!("{:.1}*", told.percent),
    });
    let stages = cell
        .stages_ms
        .map(|means| format!("{:.2} / {:.2} / {:.2}", means.h2d, means.compute, means.d2h));
    let slabs = &cell.pinned_allocations;
    let pinned = slabs
        .last()
        .map(|last| format!("{} / {last}", slabs.iter().sum::<u64>()));
    [
        cell.repetitions.to_string(),
        cell.failed.to_string(),
        ms(cell.first_warmup_ms),
        ms(cell.warmup_ms.map(|spread| spread.mean)),
        ms(cell.latency_ms.map(|spread| spread.mean)),
        ms(cell.percentile_ms("p50")),
        ms(cell.percentile_ms("p90")),
        ms(cell.percentile_ms("p99")),
        utilisation.unwrap_or_else(|| NONE.to_owned()),
        plain(cell.overlap),
        stages.unwrap_or_else(|| NONE.to_owned()),
        plain(cell.of_bound),
        pinned.unwrap_or_else(|| NONE.to_owned()),
    ]
}

fn absent(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let all = report.columns.iter().chain([&report.floor]);
    for column in all {
        if let State::Absent { reason } = &column.state {
            let (label, model) = (&column.label, &column.model);
            writeln!(f, "\nno figures for {label}: model '{model}': {reason}")?;
        }
        for (row, batch) in report.batches.iter().enumerate() {
            let (label, cell) = (&column.label, column.cell(row));
            if let Some(failure) = cell.and_then(|cell| cell.failure.as_ref()) {
                writeln!(f, "\n{label} failed at batch {batch}: {failure}")?;
            }
            if let Some(failure) = cell.and_then(|cell| cell.run_in_failure.as_ref()) {
                writeln!(
                    f,
                    "\n{label} failed at batch {batch} in the run-in, which does not count: {failure}"
                )?;
            }
        }
    }
    Ok(())
}

/// What client and network carry, and which figures come too near to it.
fn transport(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    for (row, batch) in report.batches.iter().enumerate() {
        let mean = |column: &ColumnReport| Some(column.cell(row)?.samples_per_s?.mean);
        let Some(ceiling) = mean(&report.floor) else {
            continue;
        };
        write!(
            f,
            "\nbatch {batch}: client and network carry {ceiling:.1} samples/s"
        )?;
        let near: Vec<_> = report
            .columns
            .iter()
            .filter(|column| mean(column).is_some_and(|mean| mean > CLEAR_OF_TRANSPORT * ceiling))
            .map(|column| &*column.label)
            .collect();
        if !near.is_empty() {
            let near = near.join(", ");
            write!(f, "; more than half of it, so bounded by it too: {near}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn judgements(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(f)?;
    for judgement in &report.judgements {
        let best = match &judgement.best {
            Some((label, mean)) => format!(
                "{label} is best with {mean:.1} samples/s, n = {}",
                judgement.repetitions
            ),
            None => "there are no figures".to_owned(),
        };
        let auto = judgement.auto_of_best.map_or(String::new(), |part| {
            format!("; auto reaches {part:.3} of it")
        });
        let verdict = match judgement {
            one if !one.faults.is_empty() => "MISSED",
            one if report.falls_short(one) => "not shown, cut before all its repetitions",
            one if one.near_floor => "not shown, bounded by client and network",
            _ => "met",
        };
        let other = beyond(judgement);
        writeln!(
            f,
            "batch {}: {best}{auto}: {verdict}{other}",
            judgement.batch
        )?;
        for fault in &judgement.faults {
            writeln!(f, "  because {fault}")?;
        }
    }
    Ok(())
}

/// Says how far `auto` is from a column of another platform that is faster than all of its own.
fn beyond(judgement: &Judgement) -> String {
    match (&judgement.best_of_all, judgement.auto_of_all) {
        (Some((label, mean)), Some(part)) if judgement.best_of_all != judgement.best => format!(
            "; {label}, of another platform, has {mean:.1}: auto reaches {part:.3} of it, which is not judged"
        ),
        _ => String::new(),
    }
}

fn line(
    f: &mut fmt::Formatter<'_>,
    first: &str,
    cells: impl Iterator<Item = String>,
) -> fmt::Result {
    write!(f, "| {first} |")?;
    for cell in cells {
        write!(f, " {cell} |")?;
    }
    writeln!(f)
}

fn ms(millis: Option<f64>) -> String {
    crate::report::table::cell(millis, false)
}

fn plain(figure: Option<f64>) -> String {
    figure.map_or(NONE.to_owned(), |figure| format!("{figure:.3}"))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
