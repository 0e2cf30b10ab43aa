//! The tables for people and for `docs/benchmarks.md`, in Markdown.
//!
//! Invariant: every cell that was chosen has its row, and every server its column; where a figure is
//! missing its place says why.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Peer,
    cell::Cell,
    results::{Measured, Metric, Outcome, Spread, Start, first_fault, median_of},
};

const MIB: f64 = 1024.0 * 1024.0;
/// The part of its core above which the client may be what a figure shows.
const FULL_CLIENT: f64 = 0.9;

/// Returns all tables for the peers that took part.
pub(super) fn all(starts: &[Start], cells: &[Measured], peers: &[Peer]) -> String {
    let mut text = start_table(starts);
    let servers: Vec<Peer> = peers.iter().copied().filter(|peer| peer.serves()).collect();
    text.push_str(
        "\nMedians over the rounds: answers per second (*: the client's core was full), p50 / p99 in ms \
         (~: too few answers for a p99, the slowest), microseconds of server CPU for a request, peak \
         MiB.\n\n",
    );
    push_table(&mut text, "forebay", &servers, cells, |measured, peer| {
        Some(match peer {
            None => figures(&measured.forebay),
            Some(peer) => match measured.peers.get(&peer) {
                Some(outcomes) => figures(outcomes),
                None => missing(measured, peer),
            },
        })
    });
    text.push_str(
        "\nForebay / peer, medians of the ratios within a round: throughput (least to greatest), p50, \
         p99 (the slowest of both, where either has too few answers), server CPU, peak memory. The bare \
         loop, in the faster of the model's forms at each batch size: throughput over its best rate, \
         and over its rate at the batch size formed.\n\n",
    );
    push_table(&mut text, "", peers, cells, |measured, peer| {
        peer.map(|peer| ratios(measured, peer))
    });
    text.push_str(&notes(cells));
    text
}

fn start_table(starts: &[Start]) -> String {
    let mut text = String::from(
        "| server | start to four models ready, s | idle memory, MiB | on the disk without torch, MB |\n\
         |---|---|---|---|\n",
    );
    for start in starts {
        let median = |values: Vec<f64>, digits: usize| match Spread::of(values) {
            Some(spread) => format!("{:.digits$}", spread.median),
            None => start.fault.clone().unwrap_or_default().replace('\n', " "),
        };
        let idle = start.idle_bytes.iter().map(|&bytes| bytes as f64 / MIB);
        let (ready, idle) = (median(start.ready_s.clone(), 2), median(idle.collect(), 0));
        let disk = start.disk_bytes as f64 / 1e6;
        // Writing to a text does not fail.
        let _ = writeln!(text, "| {} | {ready} | {idle} | {disk:.1} |", start.name);
    }
    text
}

/// Writes a table with a row for each cell, a column `first` where it has a name, and one for each
/// peer.
fn push_table(
    text: &mut String,
    first: &str,
    peers: &[Peer],
    cells: &[Measured],
    entry: impl Fn(&Measured, Option<Peer>) -> Option<String>,
) {
    let own = (!first.is_empty()).then_some(None);
    let columns: Vec<Option<Peer>> = own
        .into_iter()
        .chain(peers.iter().map(|&p| Some(p)))
        .collect();
    let names = columns
        .iter()
        .map(|peer| peer.map_or(first, |peer| peer.name()));
    let head: Vec<&str> = std::iter::once("cell").chain(names).collect();
    text.push_str(&row(&head
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()));
    text.push_str(&row(&vec!["---".to_owned(); head.len()]));
    for measured in cells {
        let mut entries = vec![measured.cell.to_string()];
        let of = |peer: &Option<Peer>| entry(measured, *peer).unwrap_or_default();
        entries.extend(columns.iter().map(of));
        text.push_str(&row(&entries));
    }
}

fn row(entries: &[String]) -> String {
    format!("| {} |\n", entries.join(" | "))
}

/// Returns the figures of one server in one cell.
fn figures(outcomes: &[Outcome]) -> String {
    let median = |metric| median_of(outcomes, metric).map(|spread| spread.median);
    let (Some(rate), Some(p50), Some(p99), Some(cpu), Some(peak)) = (
        median(Metric::Throughput),
        median(Metric::P50),
        median(Metric::P99),
        median(Metric::Cpu),
        median(Metric::Peak),
    ) else {
        return "none".to_owned();
    };
    let slowest = outcomes
        .iter()
        .any(|outcome| matches!(outcome, Outcome::Served(sample) if sample.p99_is_slowest));
    let full = outcomes.iter().any(|outcome| {
        matches!(outcome, Outcome::Served(sample) if sample.client_share > Some(FULL_CLIENT))
    });
    let (tilde, star) = (if slowest { "~" } else { "" }, if full { "*" } else { "" });
    let (rate, peak, failed) = (number(rate), number(peak / MIB), failed(outcomes));
    format!(
        "{rate}{star}; {} / {tilde}{}; {}; {peak}{failed}",
        number(p50),
        number(p99),
        number(cpu)
    )
}

/// Tells how many rounds have no figures, if any.
fn failed(outcomes: &[Outcome]) -> String {
    let failed = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Failed(_)))
        .count();
    match failed {
        0 => String::new(),
        failed => format!(" (failed {failed} of {})", outcomes.len()),
    }
}

fn ratios(measured: &Measured, peer: Peer) -> String {
    let median = |metric| measured.ratio(peer, metric).map(|spread| spread.median);
    let or_none =
        |ratio: Option<f64>| ratio.map_or("none".to_owned(), |ratio| format!("{ratio:.2}"));
    if let Some(best) = median(Metric::OfBest) {
        // The batch formed is not known of a server that tells of none.
        return format!("{best:.2}, {}", or_none(median(Metric::OfFormed)));
    }
    let Some(rate) = measured.ratio(peer, Metric::Throughput) else {
        return missing(measured, peer);
    };
    let Spread {
        median: rate,
        least,
        greatest,
        ..
    } = rate;
    // A server that did too little for the clock has no time on its core to compare with.
    let others = [Metric::P50, Metric::P99, Metric::Cpu, Metric::Peak];
    let others = others.map(|metric| or_none(median(metric)));
    format!(
        "{rate:.2} ({least:.2} to {greatest:.2}); {}",
        others.join("; ")
    )
}

fn missing(measured: &Measured, peer: Peer) -> String {
    match measured.fault(peer) {
        Some(_) if measured.not_run.contains_key(&peer) => "not run".to_owned(),
        Some(_) => "failed".to_owned(),
        None => "none".to_owned(),
    }
}

/// Says once for each reason what was not run, or failed, for it.
fn notes(cells: &[Measured]) -> String {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    let mut note =
        |reason: String, cell: String| match reasons.iter_mut().find(|(known, _)| *known == reason)
        {
            Some((_, cells)) => cells.push(cell),
            None => reasons.push((reason, vec![cell])),
        };
    for measured in cells {
        let cell = measured.cell.to_string();
        for (peer, reason) in &measured.not_run {
            note(format!("{} not run: {reason}", peer.name()), cell.clone());
        }
        let ours = first_fault(&measured.forebay).map(|fault| ("forebay", fault));
        let theirs = measured
            .peers
            .iter()
            .filter_map(|(peer, outcomes)| Some((peer.name(), first_fault(outcomes)?)));
        for (name, fault) in ours.into_iter().chain(theirs) {
            let fault = fault.lines().next().unwrap_or_default();
            note(format!("{name} failed: {fault}"), cell.clone());
        }
    }
    let mut text = String::from("\n");
    for (reason, cells) in reasons {
        let _ = writeln!(text, "- {reason} ({}).", cells.join(", "));
    }
    text
}

/// Says which cells nobody is run in, once for each reason.
pub(super) fn left_out(cells: &[(Cell, &'static str)]) -> String {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (cell, why) in cells {
        by_reason.entry(why).or_default().push(cell.to_string());
    }
    let lines = by_reason.into_iter().map(|(why, cells)| {
        let cells = cells.join(", ");
        format!("- nobody is run, {why}: {cells}.\n")
    });
    lines.collect()
}

/// Returns a figure with three digits that count.
fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::results::tests::{measured, served},
        *,
    };

    #[test]
    fn a_row_has_an_entry_for_every_peer_and_missing_ones_say_why() {
        let mut cell = measured("mlp-stream-c8", &[200.0], Peer::Triton, vec![served(100.0)]);
        let why = "it has no batching".to_owned();
        cell.not_run.insert(Peer::GrpcAio, why);
        let peers = [Peer::Triton, Peer::GrpcAio];
        let text = all(&[], &[cell], &peers);
        let rows: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("| mlp"))
            .collect();
        assert_eq!(
            rows,
            [
                "| mlp-stream-c8 | 200; 5.00 / 10.0; 5000; 1.00 | 100; 10.0 / 20.0; 10000; 1.00 | not run |",
                "| mlp-stream-c8 | 2.00 (2.00 to 2.00); 0.50; 0.50; 0.50; 1.00 | not run |",
            ]
        );
        assert!(text.contains("- grpc-aio not run: it has no batching (mlp-stream-c8)."));
    }

    #[test]
    fn rounds_that_failed_are_counted_beside_the_figures() {
        let gone = Outcome::Failed("it ended".to_owned());
        let text = figures(&[served(100.0), gone.clone(), served(100.0)]);
        assert!(text.ends_with(" (failed 1 of 3)"), "{text}");
        assert_eq!(figures(&[gone]), "none");
    }
}
