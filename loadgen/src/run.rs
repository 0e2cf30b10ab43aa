//! `loadgen run`: one load from the command line to the report.

mod assemble;
mod statistics;

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use forebay_client::Client;
use tokio::{sync::watch, task::JoinSet};

use self::statistics::Snapshot;
use crate::{
    cli::{Mode, OutputArgs, RunArgs, interrupt},
    clock,
    host::{self, Busy, CpuTime, Threads},
    output::ReportFile,
    pacer::{self, Pacer},
    payload::{self, Pool},
    progress::{self, Progress},
    report::{Report, StatisticsReport, html, table::Table},
    runner::{Finished, Flight, Limits, Setup, closed, open},
    schedule::{Plan, Schedule},
    target::client::{ClientTarget, Streams},
};

/// What was measured, beside the records.
#[derive(Debug)]
struct Measured {
    started: SystemTime,
    finished: Finished,
    statistics: Option<StatisticsReport>,
    cpu: Option<CpuTime>,
    /// Of `cpu`, what the pacer spun.
    spun: Duration,
    busy: Busy,
    wall: Duration,
    load_average: Option<f64>,
    /// Inferences in a request.
    batch: u64,
    streams_reopened: u64,
}

/// The files of a report, open before it is made.
#[derive(Debug)]
pub struct Files {
    json: Option<ReportFile>,
    html: Option<ReportFile>,
}

impl Files {
    /// Opens the files that `output` names.
    ///
    /// # Errors
    /// One can be neither opened nor made.
    pub fn open(output: &OutputArgs) -> anyhow::Result<Self> {
        Ok(Self {
            json: ReportFile::open(output.json.as_deref())?,
            html: ReportFile::open(output.html.as_deref())?,
        })
    }
}

/// Offers the load and reports on it.
///
/// # Errors
/// The server cannot be reached, the model is not there, or the arguments do not suit it.
pub async fn run(args: &RunArgs) -> anyhow::Result<Report> {
    args.check()?;
    let load_average = host::load_average();
    let client = Client::builder(&args.endpoint)
        .with_connections(args.connections())
        .connect()
        .await
        .with_context(|| format!("connect to {}", args.endpoint))?;
    let model = client
        .model_metadata(&args.model)
        .await
        .with_context(|| format!("ask for the inputs of model '{}'", args.model))?;
    // Everything that takes time is made here, before the first request is due.
    let pool = Pool::build(&model, &payload_options(args)).context("make the payloads")?;
    let batch = batch(args, &client, &pool).await;
    let schedule = schedule(args).context("make the schedule")?;
    let target = Arc::new(target(args, &client, pool.clone()).await?);

    let progress = watch::Sender::new(Progress::default());
    let mut helpers = JoinSet::new();
    if !args.output.quiet {
        let length = args.duration().map(|length| length + args.load.warmup);
        helpers.spawn(progress::show(progress.clone(), length));
    }
    let before = Snapshot::after(args.load.warmup, &client, &args.model).await;
    let started = SystemTime::now();
    let (cpu_before, threads_before) = (CpuTime::now(), Threads::now());
    let origin = clock::now();
    let limits = Limits {
        max_in_flight: args.max_in_flight(),
        timeout: args.limits.timeout,
        grace: args.limits.grace,
    };
    let flight = Flight::new(Setup {
        target: Arc::clone(&target),
        limits,
        origin,
        progress,
    });
    let (finished, spun) = offer(args, flight, schedule.as_ref(), origin).await?;

    let wall = clock::now() - origin;
    let cpu = cpu_before.and_then(|before| Some(CpuTime::now()?.since(before)));
    let busy =
        threads_before.and_then(|before| Some(Threads::now()?.since(&before, wall, pacer::THREAD)));
    helpers.shutdown().await;
    let measured = Measured {
        started,
        finished,
        statistics: before.gained(&client, &args.model).await,
        cpu,
        spun,
        busy: busy.unwrap_or_default(),
        wall,
        load_average,
        batch,
        streams_reopened: target.streams_reopened(),
    };
    assemble::report(args, &pool, schedule.as_ref(), &measured)
}

/// Writes the report to its files, and unless `quiet` as a table to `terminal`.
///
/// # Errors
/// A file or the terminal cannot be written; the others are.
pub fn write(
    report: &Report,
    files: Files,
    quiet: bool,
    terminal: &mut impl Write,
) -> anyhow::Result<()> {
    let printed = match quiet {
        true => Ok(()),
        false => write!(terminal, "{}", Table(report)).context("print the report"),
    };
    let json = ReportFile::write_json(files.json, report);
    let html = files
        .html
        .map_or(Ok(()), |file| file.write(html::page(report).as_bytes()));
    printed.and(json).and(html)
}

/// Returns the inferences in a request. Where a server does not tell whether its models batch, the
/// first dimension of an input is a batch if --batch says so.
async fn batch(args: &RunArgs, client: &Client, pool: &Pool) -> u64 {
    let config = client.model_config(&args.model).await;
    let batches = config.is_ok_and(|config| config.max_batch_size > 0);
    match batches || args.payload.batch.is_some() {
        true => pool.rows(),
        false => 1,
    }
}

/// Offers the load, and tells besides how long the pacer spun.
async fn offer(
    args: &RunArgs,
    flight: Flight<ClientTarget>,
    schedule: Option<&Schedule>,
    origin: Instant,
) -> anyhow::Result<(Finished, Duration)> {
    match schedule {
        Some(schedule) => {
            let Pacer { arrivals, spun } =
                pacer::start(schedule.clone(), origin).context("start the pacer")?;
            let finished = open::run(flight, arrivals, interrupt::asked()).await;
            Ok((finished, spun.total()))
        }
        None => {
            let load = closed::Load {
                concurrency: args.load.concurrency.unwrap_or(1),
                warmup: args.load.warmup,
                duration: args.duration(),
                requests: args.load.requests,
                sequences: args.load.sequences,
            };
            let finished = closed::run(flight, load, interrupt::asked()).await;
            Ok((finished, Duration::ZERO))
        }
    }
}

fn payload_options(args: &RunArgs) -> payload::Options {
    let shapes = args.payload.shapes.iter();
    let parameters = args.payload.parameters.iter();
    payload::Options {
        shapes: shapes
            .map(|shape| (shape.input.clone(), shape.dims.clone()))
            .collect(),
        batch: args.payload.batch.map(i64::from),
        variants: args.payload.variants,
        parameters: parameters
            .map(|parameter| (parameter.name.clone(), parameter.value.clone()))
            .collect(),
        timeout: Some(args.limits.timeout),
        seed: args.load.seed,
    }
}

fn schedule(args: &RunArgs) -> Result<Option<Schedule>, crate::schedule::Error> {
    let Some(rate) = args.load.rate else {
        return Ok(None);
    };
    Schedule::build(&Plan {
        arrivals: args.load.arrivals,
        rate,
        warmup: args.load.warmup,
        duration: args.duration(),
        requests: args.load.requests,
        seed: args.load.seed,
    })
    .map(Some)
}

async fn target(args: &RunArgs, client: &Client, pool: Pool) -> anyhow::Result<ClientTarget> {
    match args.mode {
        Mode::Unary => Ok(ClientTarget::unary(client.clone(), pool)),
        Mode::Stream => {
            let streams = Streams {
                count: args.streams().unwrap_or(1),
                max_in_flight: args.max_in_flight(),
                completion_order: args.limits.completion_order,
            };
            let target = ClientTarget::stream(client, pool, streams).await;
            target.context("open the streams")
        }
    }
}
