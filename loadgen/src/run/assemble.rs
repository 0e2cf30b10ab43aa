//! Makes the report of what was measured.

use std::time::SystemTime;

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
    stats::{self, Offering, Summary, Throughput},
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
        runner_thread: client.runner_thread.clone(),
        busiest_thread: client.busiest_thread.clone(),
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
        throughput: throughput(args, schedule.is_some(), &summary, measured),
        latency: LatencyReport {
            response: Distribution::from(&summary.response),
            service: Distribution::from(&summary.service),
            first_byte: Distribution::from(&summary.first_byte),
            lag: Distribution::from(&summary.lag),
            held: Distribution::from(&summary.held),
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

fn throughput(
    args: &RunArgs,
    open: bool,
    summary: &Summary,
    measured: &Measured,
) -> ThroughputReport {
    let offering = Offering {
        open,
        warmup: args.load.warmup,
        duration: args.duration(),
        requests: args.load.requests,
        arrivals_ended: measured.finished.arrivals_ended,
        end: measured.finished.end,
    };
    let throughput = Throughput::of(summary, &offering);
    ThroughputReport::new(&throughput, summary.span, measured.batch)
}

fn client(args: &RunArgs, measured: &Measured) -> ClientReport {
    let cores = host::cores();
    ClientReport {
        cores,
        cpu_share: cpu_share(measured, cores),
        runner_thread: measured.busy.caller.clone(),
        busiest_thread: measured.busy.busiest.clone(),
        run_queue_delay_s: measured
            .cpu
            .and_then(|cpu| cpu.waiting)
            .map(|waiting| waiting.as_secs_f64()),
        clocksource: host::clocksource(),
        load_average_before: measured.load_average,
        shares_machine: is_loopback(&args.endpoint),
        streams_reopened: measured.streams_reopened,
    }
}

/// Returns the share of its `cores` that the client needed: what the pacer spun it could have slept.
fn cpu_share(measured: &Measured, cores: usize) -> Option<f64> {
    let needed = measured.cpu?.running.saturating_sub(measured.spun);
    let available = measured.wall.as_secs_f64() * cores as f64;
    (available > 0.0).then(|| needed.as_secs_f64() / available)
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
    use std::time::Duration;

    use super::*;
    use crate::{
        host::{Busy, CpuTime},
        runner::{End, Finished},
    };

    #[test]
    fn the_share_of_the_cores_is_without_what_the_pacer_spun() {
        let second = Duration::from_secs(1);
        let measured = |running, wall| Measured {
            started: SystemTime::UNIX_EPOCH,
            finished: Finished {
                records: Vec::new(),
                offered: 0,
                arrivals_ended: Duration::ZERO,
                end: End::Complete,
            },
            statistics: None,
            cpu: Some(CpuTime {
                running,
                waiting: None,
            }),
            spun: second * 4,
            busy: Busy::default(),
            wall,
            load_average: None,
            batch: 1,
            streams_reopened: 0,
        };
        assert_eq!(cpu_share(&measured(second * 24, second * 10), 4), Some(0.5));
        assert_eq!(cpu_share(&measured(second, second), 4), Some(0.0));
        assert_eq!(cpu_share(&measured(second, Duration::ZERO), 4), None);
    }

    #[test]
    fn loopback_is_known_by_its_names() {
        assert!(is_loopback("http://127.0.0.1:8001") && is_loopback("http://[::1]:1"));
        assert!(is_loopback("localhost:8001") && !is_loopback("http://10.0.0.1:8001"));
    }
}
