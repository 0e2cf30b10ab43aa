//! `loadgen ladder`: configurations of one model against one another, batch size by batch size.
//!
//! A volley of requests after one for warm-up, to each column in turn, again and again. The first
//! round is the run-in: it pays for what threads, runners and slabs take once, and no figure is of it
//! but the latency of the very first request. `plan` says whose turn it is, `volley` sends, `cell`
//! sums up, `judge` says who won; all but `volley` and `columns` are pure.
//!
//! Invariant: a column that is not served says why; it never shows a zero.

mod cell;
mod columns;
mod judge;
mod plan;
mod published;
mod report;
mod spread;
mod table;
mod volley;

use std::{
    io::{self, Write},
    time::Instant,
};

use anyhow::{Context, Result};
use forebay_client::Client;
use tokio::time::timeout_at;

pub use self::{
    cell::{Cell, Source, StageMeans, Utilisation},
    judge::Judgement,
    report::{ColumnReport, Report, RowReport, SCHEMA, State},
    spread::Spread,
    table::Table,
};
use self::{
    cell::{Repetition, RunIn},
    columns::{Prepared, prepare},
    plan::{Turn, even_out, turns},
    volley::Settings,
};
use crate::{
    cli::{Column, LadderArgs, interrupt},
    clock,
    output::ReportFile,
};

/// What the column below all others is called.
const FLOOR: &str = "transport";

/// Repetitions of it at most: it stands in no ranking, and the time is better spent on the others.
const FLOOR_REPETITIONS: usize = 2;

/// Climbs the ladder.
///
/// # Errors
/// The server cannot be reached, or the arguments do not suit a model.
pub async fn run(args: &LadderArgs) -> Result<Report> {
    let client = Client::builder(&args.endpoint)
        .with_connections(args.streams)
        .connect()
        .await
        .with_context(|| format!("connect to {}", args.endpoint))?;
    let mut asked = args.columns();
    asked.push(Column {
        label: FLOOR.to_owned(),
        model: args.floor.clone(),
    });
    let prepared = prepare(&client, &asked, args).await?;
    let start = clock::now();
    // All models are loaded, so that the server knows its devices.
    let devices = devices(&client, volley::soon(start + args.limit)).await;
    let interrupted = interrupt::asked();
    let mut climb = Climb {
        client,
        args,
        start,
        run_in: vec![vec![RunIn::default(); args.batches.len()]; prepared.len()],
        done: vec![vec![Vec::new(); args.batches.len()]; prepared.len()],
        cut: None,
    };
    tokio::select! {
        () = climb.all(&prepared) => {}
        // The report is made of what is there.
        () = interrupted => climb.cut = Some("it was interrupted".to_owned()),
    }
    let took_s = (clock::now() - start).as_secs_f64();
    climb.even_out(&prepared);
    let mut columns = climb.columns(prepared);
    let floor = columns.pop().context("find the floor's column")?;
    let judgements = args.batches.iter().enumerate();
    Ok(Report {
        schema: SCHEMA.to_owned(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        endpoint: args.endpoint.clone(),
        devices,
        requests: args.requests,
        repetitions: args.repetitions,
        streams: args.streams,
        seed: args.seed,
        took_s,
        cut: climb.cut,
        usual: args.is_usual(),
        batches: args.batches.clone(),
        judgements: judgements
            .map(|(row, batch)| judge::judge(row, *batch, &columns, &floor))
            .collect(),
        columns,
        floor,
    })
}

/// Writes the report to the file `json`, if there is one, and unless `quiet` as a table to `terminal`.
///
/// # Errors
/// The file or the terminal cannot be written; the other is.
pub fn write(
    report: &Report,
    json: Option<ReportFile>,
    quiet: bool,
    terminal: &mut impl Write,
) -> Result<()> {
    let printed = match quiet {
        true => Ok(()),
        false => write!(terminal, "{}", Table(report)).context("print the report"),
    };
    printed.and(ReportFile::write_json(json, report))
}

/// A ladder being climbed.
struct Climb<'a> {
    client: Client,
    args: &'a LadderArgs,
    start: Instant,
    /// By column and row.
    run_in: Vec<Vec<RunIn>>,
    /// The same, what counts.
    done: Vec<Vec<Vec<Repetition>>>,
    cut: Option<String>,
}

impl Climb<'_> {
    async fn all(&mut self, prepared: &[Prepared]) {
        let end = self.start + self.args.limit;
        let rows = self.args.batches.len();
        // One round more, the first, for the run-in.
        for turn in turns(1 + self.args.repetitions, rows, prepared.len()) {
            let is_floor = turn.column + 1 == prepared.len();
            if is_floor && turn.repetition > FLOOR_REPETITIONS {
                continue;
            }
            let column = &prepared[turn.column];
            let Some((warmup, requests)) = column.requests(turn.row, self.args.requests) else {
                continue;
            };
            let settings = Settings {
                streams: self.args.streams,
                deadline: end.min(clock::now() + self.args.timeout),
            };
            let fired = volley::fire(&self.client, warmup, requests, settings).await;
            let repetition = fired.unwrap_or_else(|fault| Repetition {
                failed: self.args.requests as u64,
                failure: Some(fault),
                ..Repetition::default()
            });
            // What the limit cut off says nothing of the server.
            if clock::now() >= end && repetition.failed > 0 {
                self.cut = Some(format!("its limit of {:?} was reached", self.args.limit));
                return;
            }
            if !self.args.quiet {
                tell(turn, column, self.args, &repetition);
            }
            self.keep(turn, repetition);
        }
    }

    fn keep(&mut self, turn: Turn, volley: Repetition) {
        if turn.repetition == 0 {
            self.run_in[turn.column][turn.row] = volley.into();
        } else {
            self.done[turn.column][turn.row].push(volley);
        }
    }

    /// Leaves each row the repetitions that all its columns completed. The floor has fewer anyway.
    fn even_out(&mut self, prepared: &[Prepared]) {
        let columns = prepared.len().saturating_sub(1);
        let served = prepared.iter().zip(&mut self.done).take(columns);
        let served = served.filter(|(column, _)| column.pools.is_ok());
        let mut served: Vec<_> = served.map(|(_, done)| done).collect();
        even_out(self.args.batches.len(), &mut served);
    }

    fn columns(&self, prepared: Vec<Prepared>) -> Vec<ColumnReport> {
        let kept = self.run_in.iter().zip(&self.done);
        let columns = prepared.into_iter().zip(kept);
        let columns = columns.map(|(prepared, (run_in, done))| ColumnReport {
            label: prepared.column.label,
            model: prepared.column.model,
            platform: prepared.platform,
            state: match prepared.pools {
                Err(reason) => State::Absent { reason },
                Ok(_) => State::Measured {
                    rows: rows(&self.args.batches, run_in, done),
                },
            },
        });
        columns.collect()
    }
}

fn rows(batches: &[u32], run_in: &[RunIn], done: &[Vec<Repetition>]) -> Vec<RowReport> {
    let rows = batches.iter().zip(run_in.iter().zip(done));
    let rows = rows.map(|(&batch, (run_in, repetitions))| RowReport {
        batch,
        cell: Cell::of(batch, repetitions).after(run_in),
    });
    rows.collect()
}

/// Says how one turn went, for those who wait.
fn tell(turn: Turn, column: &Prepared, args: &LadderArgs, repetition: &Repetition) {
    let batch = args.batches[turn.row];
    let cell = Cell::of(batch, std::slice::from_ref(repetition));
    let figure = match (&cell.failure, cell.samples_per_s) {
        (Some(fault), _) => format!("{} failed: {fault}", cell.failed),
        (None, Some(spread)) => format!("{:.1} samples/s", spread.mean),
        (None, None) => "nothing".to_owned(),
    };
    let round = match turn.repetition {
        0 => "run-in".to_owned(),
        number => format!("repetition {number}"),
    };
    let label = &column.column.label;
    // With stderr gone, nobody waits.
    let _ = writeln!(io::stderr(), "{round}, batch {batch}, {label}: {figure}");
}

/// Returns the devices of the server, if it tells of them until `deadline`.
async fn devices(client: &Client, deadline: Instant) -> Vec<String> {
    let asked = timeout_at(deadline.into(), client.statistics("")).await;
    let Ok(Ok(statistics)) = asked else {
        return Vec::new();
    };
    let devices = statistics.devices.into_iter();
    let devices = devices.map(|device| match &*device.model {
        "" => device.name,
        model => format!("{}: {model}", device.name),
    });
    devices.collect()
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, time::Duration};

    use super::*;

    #[tokio::test]
    async fn a_server_that_answers_nothing_does_not_hold_up_the_report() {
        // The kernel takes the connection, and nobody reads from it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::connect(endpoint).await.unwrap();
        let deadline = clock::now() + Duration::from_millis(20);
        assert!(devices(&client, deadline).await.is_empty());
    }
}
