//! The plots of the page.

use crate::report::{
    Distribution, Report, WindowReport,
    chart::{Axis, Chart, Line},
};

/// Points of a percentile curve.
const POINTS: usize = 120;

/// Draws latency against percentile, each further nine as wide as the one before.
pub(super) fn percentiles(report: &Report) -> String {
    let latency = &report.latency;
    let curves = [
        ("response", "a", &latency.response),
        ("service", "b", &latency.service),
    ];
    let lines: Vec<Line<'_>> = curves
        .into_iter()
        .map(|(name, class, distribution)| Line {
            name,
            class,
            points: distribution.curve(POINTS),
        })
        .collect();
    let most = lines
        .iter()
        .filter_map(|line| line.points.last())
        .map(|point| point.0);
    let most = most.fold(0.0, f64::max);
    // What lies beyond the last percentile that the samples can support.
    let supported = supported(&latency.response);
    Chart {
        title: "Latency by percentile",
        x: Axis::percentile(most),
        y: millis(
            lines
                .iter()
                .flat_map(|line| &line.points)
                .map(|point| point.1),
        ),
        shade: (supported < most).then_some((supported, most, "too few samples")),
        lines,
    }
    .draw()
}

/// Draws latency against the time at which requests were meant to be sent.
pub(super) fn latency_over_time(report: &Report) -> String {
    let line = |name, class, value: fn(&WindowReport) -> Option<f64>| Line {
        name,
        class,
        points: middles(report)
            .filter_map(|(at, window)| Some((at, value(window)?)))
            .collect(),
    };
    let mut lines = vec![
        line("p50", "a", |window| window.p50_ms),
        line("p99", "b", |window| window.p99_ms),
        line("max", "c", |window| window.max_ms),
    ];
    lines.retain(|line| !line.points.is_empty());
    Chart {
        title: "Response over time, by intended send",
        x: Axis::seconds(end(report)),
        y: millis(
            lines
                .iter()
                .flat_map(|line| &line.points)
                .map(|point| point.1),
        ),
        shade: warmup(report),
        lines,
    }
    .draw()
}

/// Draws requests and answers a second.
pub(super) fn throughput_over_time(report: &Report) -> String {
    let width = report.series_width_s;
    let line = |name, class, count: fn(&WindowReport) -> u64| Line {
        name,
        class,
        // The last window ends in the middle of something, so its rate means nothing.
        points: middles(report)
            .take(report.series.len().max(2) - 1)
            .map(|(at, window)| (at, count(window) as f64 / width))
            .collect(),
    };
    let mut lines = vec![
        line("offered", "d", |window| window.offered),
        line("correct answers", "a", |window| window.completed_ok),
    ];
    if report.series.iter().any(|window| window.failed > 0) {
        lines.push(line("without answer", "c", |window| window.failed));
    }
    let most = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.1);
    Chart {
        title: "Requests and answers over time",
        x: Axis::seconds(end(report)),
        y: Axis::rate(most.fold(0.0, f64::max)),
        shade: warmup(report),
        lines,
    }
    .draw()
}

fn middles(report: &Report) -> impl Iterator<Item = (f64, &WindowReport)> {
    let half = report.series_width_s / 2.0;
    report
        .series
        .iter()
        .map(move |window| (window.start_s + half, window))
}

fn end(report: &Report) -> f64 {
    let last = report.series.last();
    last.map_or(0.0, |window| window.start_s + report.series_width_s)
}

fn warmup(report: &Report) -> Option<(f64, f64, &'static str)> {
    (report.run.warmup_s > 0.0).then_some((0.0, report.run.warmup_s, "warm-up"))
}

fn millis(values: impl Iterator<Item = f64>) -> Axis {
    let (least, most) = values.fold((f64::INFINITY, 0.0f64), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    Axis::millis(least.min(most.max(1e-3)), most)
}

fn supported(distribution: &Distribution) -> f64 {
    let given = distribution
        .percentiles
        .iter()
        .filter(|percentile| percentile.value_ms.is_some());
    given
        .map(|percentile| percentile.quantile)
        .fold(0.0, f64::max)
}
