//! The report as text for a terminal.

use std::fmt::{self, Write};

use super::{Distribution, Pacing, PercentileReport, Report};

/// Shows a report as text.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a>(pub &'a Report);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        head(f, report)?;
        counts(f, report)?;
        latencies(f, report)?;
        server(f, report)?;
        verdict(f, report)
    }
}

fn head(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let run = &report.run;
    writeln!(
        f,
        "{} at {}, {}, {} bytes a request",
        run.model, run.endpoint, run.mode, run.payload_bytes
    )?;
    match &run.pacing {
        Pacing::Open {
            rate,
            arrivals,
            schedule_sha256,
            ..
        } => {
            let hash = schedule_sha256.get(..12).unwrap_or(schedule_sha256);
            let name = format!("{arrivals:?}").to_lowercase();
            writeln!(
                f,
                "open loop, {rate}/s {name}, seed {}, schedule {hash}",
                run.seed
            )?;
        }
        Pacing::Closed { concurrency } => writeln!(
            f,
            "closed loop, {concurrency} in flight (closed: says nothing about latency at a rate)"
        )?,
    }
    writeln!(f)
}

fn counts(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let counts = &report.counts;
    writeln!(
        f,
        "offered {} = {} ok + {} failed + {} timed out + {} unfinished + {} not sent   (warm-up {}, not counted)",
        counts.offered,
        counts.completed_ok,
        counts.failed,
        counts.timed_out,
        counts.unfinished,
        counts.not_sent,
        counts.warmup,
    )?;
    for (code, count) in &counts.failures {
        writeln!(f, "  failed with {code}: {count}")?;
    }
    let throughput = &report.throughput;
    write!(
        f,
        "throughput {} requests/s",
        rate(throughput.requests_per_s)
    )?;
    if report.run.batch > 1 {
        write!(f, ", {} inferences/s", rate(throughput.inferences_per_s))?;
    }
    writeln!(
        f,
        " {} (offered {}/s)",
        throughput.over(),
        rate(throughput.offered_per_s)
    )?;
    writeln!(
        f,
        "in flight  mean {:.1}, peak {}, growth {:+.1}/s\n",
        report.backlog.mean, report.backlog.peak, report.backlog.growth_per_s
    )
}

fn latencies(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let latency = &report.latency;
    let mut rows = vec![
        ("response", &latency.response),
        ("service", &latency.service),
        ("lag", &latency.lag),
        ("held back", &latency.held),
    ];
    if latency.errors.samples > 0 {
        rows.push(("errors", &latency.errors));
    }
    header(f, "latency, ms")?;
    for (name, distribution) in rows {
        row(f, name, distribution)?;
    }
    writeln!(
        f,
        "response from the intended send over all offered; lag how late the client handed requests over; \
         held back from there to the send, by the connection or the server; service from the send over answers"
    )?;
    let bounds: Vec<String> = latency
        .response
        .percentiles
        .iter()
        .filter_map(bounds)
        .collect();
    if !bounds.is_empty() {
        writeln!(
            f,
            "response bounds at 99 % confidence: {}",
            bounds.join(", ")
        )?;
    }
    Ok(())
}

fn server(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    if let Some(statistics) = &report.server.statistics {
        let means: Vec<String> = statistics
            .stages
            .iter()
            .map(|stage| format!("{} {:.3}", stage.stage, stage.mean_ms))
            .collect();
        writeln!(
            f,
            "\nserver means, ms: {} ({} requests, {} executions, mean batch {})",
            means.join(", "),
            statistics.success,
            statistics.executions,
            rate(statistics.mean_batch)
        )?;
    }
    if !report.server.stages.is_empty() {
        writeln!(f)?;
        header(f, "stage, ms")?;
        for stage in report.server.stages.iter().chain(&report.server.waits) {
            row(f, &stage.stage, &stage.latency)?;
        }
    }
    Ok(())
}

fn verdict(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(f, "\n{}", report.verdict.status)?;
    for reason in &report.verdict.reasons {
        writeln!(f, "  because {reason}")?;
    }
    for note in &report.verdict.notes {
        writeln!(f, "  note: {note}")?;
    }
    Ok(())
}

fn header(f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    write!(f, "{title:<17}")?;
    for name in ["mean", "p50", "p90", "p95", "p99", "p99.9", "p99.99", "max"] {
        write!(f, "{name:>11}")?;
    }
    writeln!(f)
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, distribution: &Distribution) -> fmt::Result {
    let mut line = String::new();
    let open = distribution.censored + distribution.never > 0;
    write!(line, "{name:<17}{:>11}", cell(distribution.mean_ms, open))?;
    for percentile in &distribution.percentiles {
        write!(
            line,
            "{:>11}",
            cell(percentile.value_ms, percentile.at_least)
        )?;
    }
    writeln!(f, "{line}{:>11}", cell(distribution.max_ms, open))
}

/// Returns a time with as many digits as it deserves, after `>=` if it is a lower bound.
pub(crate) fn cell(millis: Option<f64>, at_least: bool) -> String {
    let Some(millis) = millis else {
        return "n/a".to_owned();
    };
    let digits = match millis {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    let mark = if at_least { ">=" } else { "" };
    format!("{mark}{millis:.digits$}")
}

fn bounds(percentile: &PercentileReport) -> Option<String> {
    percentile.value_ms?;
    let (low, high) = (percentile.low_ms, percentile.high_ms);
    Some(match high {
        Some(_) => format!(
            "{} {}..{}",
            percentile.name,
            cell(low, false),
            cell(high, false)
        ),
        None => format!("{} {}", percentile.name, cell(low, true)),
    })
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or("n/a".to_owned(), |rate| format!("{rate:.1}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stats::Latencies;

    #[test]
    fn a_mean_that_lacks_failures_is_marked_as_a_lower_bound() {
        struct Row(Distribution);
        impl fmt::Display for Row {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                row(f, "response", &self.0)
            }
        }
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_millis(5));
        let mean = |latencies: &Latencies| {
            let line = Row(Distribution::from(latencies)).to_string();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        assert!(!mean(&latencies).starts_with(">="));
        latencies.record_never();
        assert!(mean(&latencies).starts_with(">="));
    }

    #[test]
    fn cells_keep_three_digits_or_more_and_mark_lower_bounds() {
        assert_eq!(cell(None, true), "n/a");
        assert_eq!(cell(Some(0.0123), false), "0.012");
        assert_eq!(cell(Some(12.345), true), ">=12.35");
        assert_eq!(cell(Some(12345.6), false), "12346");
    }
}
