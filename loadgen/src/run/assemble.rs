//! Makes the report of what was measured.

use std::time::{Duration, SystemTime};

use super::Measured;
use crate::{
    cli::{Mode, RunArgs},
    host,
    payload::Pool,
    report::{
        ClientReport, CountsReport, Distribution, InputReport, LatencyReport, Pacing, Report,
        RunReport, SCHEMA, ServerReport, StageReport, ThroughputReport, WindowReport,
    },
    schedule::Schedule,
    stats::{self, Summary},
    verdict::{Evidence, Verdict},
};

/// Sums up the records and judges them.
pub(super) fn report(
    args: &RunArgs,
    pool: &Pool,
    schedule: Option<&Schedule>,
    measured: &Measured,
) -> anyhow::Result<Report> {
    let finished = &measured.finished;
    let summary = Summary::of(
        &finished.records,
        args.load.warmup,
        args.duration(),
        args.limits.timeout,
    );
    summary.counts.check(finished.offered - summary.warmup)?;
    let client = client(args, measured);
    let evidence = Evidence {
        open: schedule.is_some(),
        end: finished.end,
        max_in_flight: args.max_in_flight(),
        cpu_share: client.cpu_share,
        shared_cores: client.shares_machine.then_some(client.cores),
        streams_reopened: measured.streams_reopened,
        served: measured
            .statistics
            .as_ref()
            .map(|statistics| statistics.success + statistics.fail),
    };
    let (width, windows) = stats::windows(&finished.records);
    let started = measured.started.duration_since(SystemTime::UNIX_EPOCH);
    Ok(Report {
        schema: SCHEMA.to_owned(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_unix_s: started.unwrap_or_default().as_secs_f64(),
        verdict: Verdict::of(&summary, &evidence),
        run: run(args, pool, schedule, measured.batch),
        counts: CountsReport::new(&summary.counts, summary.warmup),
        throughput: throughput(args, &summary, measured),
        latency: LatencyReport {
            response: Distribution::from(&summary.response),
            service: Distribution::from(&summary.service),
            first_byte: Distribution::from(&summary.first_byte),
            lag: Distribution::from(&summary.lag),
            errors: Distribution::from(&summary.errors),
        },
        backlog: (&summary.backlog).into(),
        server: ServerReport {
            statistics: measured.statistics.clone(),
            stages: summary
                .stages
                .as_ref()
                .map(StageReport::all)
                .unwrap_or_default(),
            waits: summary
                .stages
                .as_ref()
                .map(StageReport::waits)
                .unwrap_or_default(),
        },
        client,
        series_width_s: width.as_secs_f64(),
        series: windows.iter().map(WindowReport::from).collect(),
    })
}

fn run(args: &RunArgs, pool: &Pool, schedule: Option<&Schedule>, batch: u64) -> RunReport {
    let inputs = pool.inputs().iter();
    let parameters = args.payload.parameters.iter();
    RunReport {
        endpoint: args.endpoint.clone(),
        model: args.model.clone(),
        mode: match args.mode {
            Mode::Unary => "unary",
            Mode::Stream => "stream",
        }
        .to_owned(),
        pacing: match schedule {
            Some(schedule) => Pacing::Open {
                rate: args.load.rate.unwrap_or_default(),
                arrivals: args.load.arrivals,
                scheduled: schedule.offsets().len(),
                schedule_sha256: schedule.sha256(),
            },
            None => Pacing::Closed {
                concurrency: args.max_in_flight(),
            },
        },
        warmup_s: args.load.warmup.as_secs_f64(),
        duration_s: args.duration().map(|length| length.as_secs_f64()),
        requests: args.load.requests,
        seed: args.load.seed,
        batch,
        variants: args.payload.variants,
        payload_bytes: pool.bytes(),
        inputs: inputs
            .map(|(name, datatype, shape)| InputReport {
                name: name.clone(),
                datatype: datatype.to_string(),
                shape: shape.clone(),
            })
            .collect(),
        parameters: parameters
            .map(|parameter| (parameter.name.clone(), parameter.text.clone()))
            .collect(),
        connections: args.connections(),
        streams: args.streams(),
        completion_order: args.limits.completion_order,
        max_in_flight: args.max_in_flight(),
        timeout_s: args.limits.timeout.as_secs_f64(),
        grace_s: args.limits.grace.as_secs_f64(),
        sequences: args.load.sequences,
    }
}

fn throughput(args: &RunArgs, summary: &Summary, measured: &Measured) -> ThroughputReport {
    let counts = &summary.counts;
    let requests = summary.span.rate(counts.ok);
    let arriving = measured
        .finished
        .arrivals_ended
        .saturating_sub(args.load.warmup);
    let over = |count: u64, length: Duration| {
        (!length.is_zero()).then(|| count as f64 / length.as_secs_f64())
    };
    ThroughputReport {
        offered_per_s: over(counts.offered, arriving),
        requests_per_s: requests,
        inferences_per_s: requests.map(|rate| rate * measured.batch as f64),
        span_s: summary
            .span
            .end
            .saturating_sub(summary.span.start)
            .as_secs_f64(),
        window_requests_per_s: summary
            .window_ok
            .and_then(|ok| over(ok, args.duration().unwrap_or_default())),
    }
}

fn client(args: &RunArgs, measured: &Measured) -> ClientReport {
    let cores = host::cores();
    let available = measured.wall.as_secs_f64() * cores as f64;
    ClientReport {
        cores,
        cpu_share: measured
            .cpu
            .filter(|_| available > 0.0)
            .map(|cpu| cpu.running.as_secs_f64() / available),
        run_queue_delay_s: measured.cpu.map(|cpu| cpu.waiting.as_secs_f64()),
        clocksource: host::clocksource(),
        load_average_before: measured.load_average,
        shares_machine: is_loopback(&args.endpoint),
        streams_reopened: measured.streams_reopened,
    }
}

/// Returns whether an endpoint is on this machine, by its name alone.
fn is_loopback(endpoint: &str) -> bool {
    let authority = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, rest)| rest);
    ["127.", "localhost", "[::1]"]
        .iter()
        .any(|name| authority.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_by_its_names() {
        assert!(is_loopback("http://127.0.0.1:8001") && is_loopback("http://[::1]:1"));
        assert!(is_loopback("localhost:8001") && !is_loopback("http://10.0.0.1:8001"));
    }
}
