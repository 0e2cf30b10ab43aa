//! What was asked for, and of what machine, at the end of the page.

use std::fmt::{self, Write};

use crate::report::{ClientReport, Pacing, Report, RunReport, chart::escape};

/// Writes the settings as a list of names and values.
pub(super) fn write(out: &mut String, report: &Report) -> fmt::Result {
    let mut rows = load(&report.run, report.counts.warmup);
    rows.push(("client", client(&report.client)));
    rows.push((
        "schema",
        format!("{}, version {}", report.schema, report.tool_version),
    ));
    out.push_str("<h2>Settings</h2>\n<dl>");
    for (name, value) in rows {
        write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&value))?;
    }
    out.push_str("</dl>\n");
    Ok(())
}

fn load(run: &RunReport, warmup: u64) -> Vec<(&'static str, String)> {
    let tensors: Vec<String> = run
        .inputs
        .iter()
        .map(|input| format!("{} {} {:?}", input.name, input.datatype, input.shape))
        .collect();
    let parameters: Vec<String> = run
        .parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let streams = run
        .streams
        .map_or(String::new(), |streams| format!(", {streams} streams"));
    let mut rows = vec![
        (
            "inputs",
            format!(
                "{} ({} bytes, {} variants)",
                tensors.join(", "),
                run.payload_bytes,
                run.variants
            ),
        ),
        (
            "warm-up",
            format!("{} s, {warmup} requests, not counted", run.warmup_s),
        ),
        (
            "limits",
            format!(
                "{} in flight, {} s timeout, {} s grace",
                run.max_in_flight, run.timeout_s, run.grace_s
            ),
        ),
        ("connections", format!("{}{streams}", run.connections)),
        ("seed", run.seed.to_string()),
    ];
    if !parameters.is_empty() {
        rows.push(("parameters", parameters.join(", ")));
    }
    if let Pacing::Open {
        schedule_sha256,
        scheduled,
        ..
    } = &run.pacing
    {
        rows.push((
            "schedule",
            format!("{scheduled} arrivals, SHA-256 {schedule_sha256}"),
        ));
    }
    rows
}

fn client(client: &ClientReport) -> String {
    let share = client.cpu_share.map_or("unknown".to_owned(), |share| {
        format!("{:.0} %", share * 100.0)
    });
    let busiest = client.busiest_thread.as_ref();
    let busiest = busiest.map_or(String::new(), |thread| {
        format!(
            " (busiest thread {} {:.0} %)",
            thread.name,
            thread.share * 100.0
        )
    });
    let clock = client.clocksource.as_deref().unwrap_or("unknown");
    format!(
        "{} cores, {share} used{busiest}, clock {clock}",
        client.cores
    )
}
