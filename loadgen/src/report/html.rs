//! The report as a page that stands alone: no script, nothing fetched.

mod plots;
mod settings;

use std::fmt::{self, Write};

use super::{Distribution, Pacing, Report, chart::escape, table::cell};

/// The page's style, for light and dark.
const STYLE: &str = include_str!("page.css");

/// Returns the page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    write(&mut out, report).expect("a String takes any text");
    out
}

fn write(out: &mut String, report: &Report) -> fmt::Result {
    let model = escape(&report.run.model);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{model}: load test</title><style>{STYLE}</style></head><body>\n\
         <h1>{model}</h1><p class=\"sub\">{}</p>\n",
        escape(&subtitle(report))
    )?;
    verdict(out, report)?;
    tiles(out, report)?;
    out.push_str("<h2>Latency</h2>\n");
    latencies(out, report)?;
    out.push_str(&plots::percentiles(report));
    out.push_str(&plots::latency_over_time(report));
    out.push_str("<h2>Throughput</h2>\n");
    out.push_str(&plots::throughput_over_time(report));
    stages(out, report)?;
    settings::write(out, report)?;
    out.push_str("</body></html>\n");
    Ok(())
}

fn subtitle(report: &Report) -> String {
    let how = match &report.run.pacing {
        Pacing::Open { rate, arrivals, .. } => {
            format!(
                "open loop, {rate} requests/s, {}",
                format!("{arrivals:?}").to_lowercase()
            )
        }
        Pacing::Closed { concurrency } => format!(
            "closed loop, {concurrency} in flight; closed: says nothing about latency at a rate"
        ),
    };
    format!("{} · {} · {how}", report.run.endpoint, report.run.mode)
}

fn verdict(out: &mut String, report: &Report) -> fmt::Result {
    let verdict = &report.verdict;
    write!(
        out,
        "<div class=\"verdict {0}\"><strong>{0}</strong>",
        verdict.status
    )?;
    if !verdict.reasons.is_empty() || !verdict.notes.is_empty() {
        out.push_str("<ul>");
        for line in verdict.reasons.iter().chain(&verdict.notes) {
            write!(out, "<li>{}</li>", escape(line))?;
        }
        out.push_str("</ul>");
    }
    out.push_str("</div>\n");
    Ok(())
}

fn tiles(out: &mut String, report: &Report) -> fmt::Result {
    let counts = &report.counts;
    let rate = |rate: Option<f64>| rate.map_or("n/a".to_owned(), |rate| format!("{rate:.1}"));
    let p99 = report
        .latency
        .response
        .percentiles
        .iter()
        .find(|percentile| percentile.name == "p99");
    let p99 = p99.map_or("n/a".to_owned(), |p99| cell(p99.value_ms, p99.at_least));
    let missing = counts.offered - counts.completed_ok;
    let tiles = [
        (
            rate(report.throughput.requests_per_s),
            format!("correct answers a second, {}", report.throughput.over()),
        ),
        (p99, "p99 response, ms".to_owned()),
        (
            counts.completed_ok.to_string(),
            format!("correct answers of {} offered", counts.offered),
        ),
        (
            missing.to_string(),
            format!(
                "without: {} failed, {} timed out, {} unfinished, {} not sent",
                counts.failed, counts.timed_out, counts.unfinished, counts.not_sent
            ),
        ),
        (
            format!("{:.1}", report.backlog.mean),
            format!(
                "in flight, peak {}, {:+.1} a second",
                report.backlog.peak, report.backlog.growth_per_s
            ),
        ),
    ];
    out.push_str("<div class=\"tiles\">");
    for (number, meaning) in tiles {
        let number = escape(&number);
        write!(
            out,
            "<div class=\"tile\"><b>{number}</b><span>{meaning}</span></div>"
        )?;
    }
    out.push_str("</div>\n");
    Ok(())
}

fn latencies(out: &mut String, report: &Report) -> fmt::Result {
    let latency = &report.latency;
    let mut rows = vec![
        (
            "response: from the intended send, over all offered",
            &latency.response,
        ),
        (
            "service: from the send, over correct answers",
            &latency.service,
        ),
        (
            "first byte: from the send, over correct answers",
            &latency.first_byte,
        ),
        (
            "lag: how late the client handed requests over",
            &latency.lag,
        ),
        (
            "held back: from there to the send, by the connection or the server",
            &latency.held,
        ),
    ];
    if latency.errors.samples > 0 {
        rows.push((
            "errors and timeouts: from the intended send",
            &latency.errors,
        ));
    }
    table(out, "ms", &rows)?;
    out.push_str(
        "<p class=\"hint-text\">Below each percentile: bounds at 99 % confidence. n/a: too few samples to \
         speak of it. ≥: answers are missing, so that the true value may be larger.</p>\n",
    );
    Ok(())
}

fn table(out: &mut String, title: &str, rows: &[(&str, &Distribution)]) -> fmt::Result {
    let Some((_, first)) = rows.first() else {
        return Ok(());
    };
    write!(
        out,
        "<div class=\"scroll\"><table><tr><th>{title}</th><th>samples</th><th>mean</th>"
    )?;
    for percentile in &first.percentiles {
        write!(out, "<th>{}</th>", percentile.name)?;
    }
    out.push_str("<th>max</th></tr>\n");
    let sign = |text: String| text.replace(">=", "≥");
    for (name, row) in rows {
        let open = row.censored + row.never > 0;
        write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td>",
            escape(name),
            row.samples,
            sign(cell(row.mean_ms, open))
        )?;
        for percentile in &row.percentiles {
            write!(
                out,
                "<td>{}",
                sign(cell(percentile.value_ms, percentile.at_least))
            )?;
            if percentile.value_ms.is_some() {
                let high = percentile
                    .high_ms
                    .map_or("?".to_owned(), |high| cell(Some(high), false));
                write!(
                    out,
                    "<small>{}–{high}</small>",
                    cell(percentile.low_ms, false)
                )?;
            }
            out.push_str("</td>");
        }
        writeln!(out, "<td>{}</td></tr>", sign(cell(row.max_ms, open)))?;
    }
    out.push_str("</table></div>\n");
    Ok(())
}

fn stages(out: &mut String, report: &Report) -> fmt::Result {
    let server = &report.server;
    let told: Vec<(&str, &Distribution)> = server
        .stages
        .iter()
        .map(|stage| (&*stage.stage, &stage.latency))
        .collect();
    let means: Vec<(&str, f64)> = match (&server.statistics, told.is_empty()) {
        (_, false) => told
            .iter()
            .map(|(name, row)| (*name, row.mean_ms.unwrap_or_default()))
            .collect(),
        (Some(statistics), true) => statistics
            .stages
            .iter()
            .map(|stage| (&*stage.stage, stage.mean_ms))
            .collect(),
        (None, true) => return Ok(()),
    };
    out.push_str("<h2>Where the time goes</h2>\n");
    bar(out, &means)?;
    if !told.is_empty() {
        let waits = server.waits.iter();
        let waits = waits.map(|wait| (&*wait.stage, &wait.latency));
        let rows: Vec<_> = told.into_iter().chain(waits).collect();
        table(out, "stage, ms", &rows)?;
    }
    if let Some(statistics) = &server.statistics {
        writeln!(
            out,
            "<p class=\"hint-text\">The server counted {} requests in {} executions.</p>",
            statistics.success, statistics.executions
        )?;
    }
    Ok(())
}

/// Writes one bar of which each stage takes its share.
fn bar(out: &mut String, means: &[(&str, f64)]) -> fmt::Result {
    let classes = ["a", "b", "c", "d", "e"];
    out.push_str("<figure><figcaption>Mean time of a request<span class=\"legend\">");
    for ((name, mean), class) in means.iter().zip(classes) {
        write!(
            out,
            "<span class=\"key {class}\">{} {mean:.3} ms</span>",
            escape(name)
        )?;
    }
    out.push_str("</span></figcaption><div class=\"bar\">");
    for ((name, mean), class) in means.iter().zip(classes) {
        let name = escape(name);
        write!(
            out,
            "<i class=\"{class}\" style=\"flex:{mean:.6}\" title=\"{name} {mean:.3} ms\"></i>"
        )?;
    }
    out.push_str("</div></figure>\n");
    Ok(())
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
