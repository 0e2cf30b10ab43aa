//! `cargo xtask bench peers`: Forebay against what a user would pick instead, on this machine.
//!
//! Each peer is prepared from the registries, serves the same models, and is driven by the same client;
//! client and server have a core each, and contestants take turns within every round. Owns
//! `.cache/peers`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;

use self::{
    cell::{Cell, Mode, Model, named},
    client::Client,
    contestant::{Arena, Recipe},
    cores::Cores,
    libtorch::Bare,
    python_peer::PythonPeers,
    results::{Measured, Start},
    rounds::{Contest, Entrant, Length},
    targets::Verdict,
};
use crate::{
    fixtures,
    process::Interrupt,
    say,
    server::{self, Build, Programs},
    workspace::Workspace,
};

mod cell;
mod client;
mod contestant;
mod cores;
mod echo;
mod forebay;
mod grpc_aio;
mod libtorch;
mod mlserver;
mod python_peer;
mod repository;
mod results;
mod rounds;
mod table;
mod targets;
mod triton;
mod usage;

/// Beside warm-up and window of a run: starting the client, and looking at the server.
const OVERHEAD: Duration = Duration::from_millis(200);
/// A start with its settling, for the estimate.
const A_START: Duration = Duration::from_secs(4);

/// Whom Forebay is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// A bare echo over tonic: what the wire costs.
    Echo,
    /// A bare loop over the model: what the model costs.
    Libtorch,
    /// Triton 2.51 with its Python backend.
    Triton,
    /// grpc.aio and one thread, by hand.
    GrpcAio,
    /// MLServer 1.7.1.
    Mlserver,
}

/// The options of this benchmark alone.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of `bench peers`")]
pub(crate) struct Options {
    /// Hold Forebay against this peer only; may be given again
    #[arg(long, value_enum, value_name = "PEER")]
    peer: Vec<Peer>,
    /// Run only cells with this in their names, such as mlp-stream or c64; may be given again
    #[arg(long, value_name = "NAME")]
    cell: Vec<String>,
    /// Rounds, in each of which every contestant runs once [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Seconds of a run that are measured, for models that are not slow [default: 3]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u16).range(1..))]
    seconds: Option<u16>,
    /// Write the figures to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What peers are prepared from.
#[derive(Debug)]
struct Setup<'a> {
    workspace: &'a Workspace,
    programs: &'a Programs,
    /// The repository of fixture models, whose weights all serve.
    fixtures: PathBuf,
    /// Where the models of each server are laid out.
    folder: PathBuf,
}

impl Peer {
    pub(crate) const ALL: [Self; 5] = [
        Self::Echo,
        Self::Libtorch,
        Self::Triton,
        Self::GrpcAio,
        Self::Mlserver,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Libtorch => "libtorch",
            Self::Triton => "triton",
            Self::GrpcAio => "grpc-aio",
            Self::Mlserver => "mlserver",
        }
    }

    /// Returns whether it is a server.
    pub(crate) fn serves(self) -> bool {
        self != Self::Libtorch
    }

    /// Returns whether it can be run in `cell`.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn applies(self, cell: Cell) -> Result<(), &'static str> {
        let identity = cell.load.model() == Model::Identity;
        match self {
            _ if identity && cell.batching => Err("the identity computes nothing to batch"),
            Self::Echo if !identity => Err("it has no models"),
            Self::Libtorch if identity => Err("the identity computes nothing"),
            Self::GrpcAio if cell.batching => Err("it has no batching"),
            Self::Mlserver if cell.mode == Mode::Stream => {
                Err("its replies on a stream are of a type that the protocol's clients cannot read")
            }
            Self::Echo | Self::Libtorch | Self::Triton | Self::GrpcAio | Self::Mlserver => Ok(()),
        }
    }

    /// Gets the peer, and returns what starts it, or `None` where it is no server.
    fn recipe(self, setup: &Setup<'_>, interrupt: &Interrupt) -> Result<Option<Recipe>> {
        let of_python = match self {
            Self::Echo => return Ok(Some(echo::recipe(setup))),
            Self::Libtorch => return Ok(None),
            Self::Triton => triton::recipe,
            Self::GrpcAio => grpc_aio::recipe,
            Self::Mlserver => mlserver::recipe,
        };
        let python = PythonPeers::prepare(setup, interrupt)?;
        of_python(setup, &python, interrupt).map(Some)
    }
}

impl Options {
    /// Returns whether any of them was given.
    pub(crate) fn are_given(&self) -> bool {
        let Self {
            peer,
            cell,
            rounds,
            seconds,
            json,
        } = self;
        let lists = !peer.is_empty() || !cell.is_empty();
        lists || rounds.is_some() || seconds.is_some() || json.is_some()
    }

    fn peers(&self) -> Vec<Peer> {
        let chosen = |peer: &Peer| self.peer.is_empty() || self.peer.contains(peer);
        Peer::ALL.into_iter().filter(chosen).collect()
    }

    /// Returns the cells that were chosen and that one of `peers` can be run in.
    fn cells(&self, peers: &[Peer]) -> Result<Vec<Cell>> {
        let mut chosen = Vec::new();
        for wanted in &self.cell {
            let found = named(wanted);
            ensure!(
                !found.is_empty(),
                "no cell has {wanted} in its name; they look like mlp-stream-c64-batched"
            );
            chosen.extend(found);
        }
        let of_all = |cell: &Cell| self.cell.is_empty() || chosen.contains(cell);
        let cells = Cell::all().into_iter().filter(of_all);
        let run = |cell: &Cell| peers.iter().any(|peer| peer.applies(*cell).is_ok());
        Ok(cells.filter(run).collect())
    }

    fn length(&self) -> Length {
        Length {
            rounds: self.rounds.unwrap_or(5).into(),
            window: Duration::from_secs(self.seconds.unwrap_or(3).into()),
        }
    }
}

/// Runs the benchmark; with `check`, fails where it misses a target.
pub(crate) fn command(
    workspace: &Workspace,
    options: &Options,
    check: bool,
    interrupt: &Interrupt,
) -> Result<()> {
    let peers = options.peers();
    let (cells, length) = (options.cells(&peers)?, options.length());
    let cores = Cores::find()?;
    crate::libtorch::ensure(workspace, interrupt)?;
    let what = Build {
        release: true,
        packages: &["forebay-server", "forebay-loadgen", "forebay-tests"],
        bins: &["forebay", "loadgen", "make-models"],
        examples: &["tonic_echo", "await_ready", "bare_model"],
    };
    let programs = server::build(workspace, &what, interrupt)?;
    let fixtures = workspace.cache("peers/models");
    let names = Model::ALL.map(Model::fixture);
    let maker = programs.path("make-models");
    fixtures::made(workspace, &maker, &fixtures, &names, interrupt)?;
    let reports = programs.reports("bench")?;
    let setup = Setup {
        workspace,
        programs: &programs,
        fixtures,
        folder: programs.reports("bench/peers")?,
    };
    let arena = Arena {
        cores,
        await_ready: programs.path("examples/await_ready"),
        folder: setup.folder.clone(),
        interrupt,
    };
    let mut contest = prepare(&setup, &peers, arena)?;
    announce(&cells, &peers, length, cores)?;

    let starts = contest.starts(length.rounds)?;
    let mut measured = Vec::new();
    for (index, &cell) in cells.iter().enumerate() {
        say(format_args!("{} of {}: {cell}", index + 1, cells.len()))?;
        measured.push(contest.cell(cell, length)?);
    }
    let tables = table::all(&starts, &measured, &peers);
    say(format_args!("\n{tables}"))?;
    let markdown = reports.join("peers.md");
    fs::write(&markdown, &tables).context("write the tables")?;
    let json = options.json.clone().unwrap_or(reports.join("peers.json"));
    write(&json, &figures(cores, length, &starts, &measured))?;
    let missed = judge(&starts, &measured)?;
    let (markdown, json) = (workspace.shown(&markdown), workspace.shown(&json));
    say(format_args!("written to {markdown} and {json}"))?;
    ensure!(
        !check || missed == 0,
        "peers missed {missed} of its targets"
    );
    Ok(())
}

/// Gets every peer that was chosen. One that cannot be had is told of and left out.
fn prepare<'a>(setup: &Setup<'_>, peers: &[Peer], arena: Arena<'a>) -> Result<Contest<'a>> {
    let (mut servers, mut absent) = (BTreeMap::new(), BTreeMap::new());
    for &peer in peers {
        match peer.recipe(setup, arena.interrupt) {
            Ok(None) => {}
            Ok(Some(recipe)) => {
                servers.insert(peer, Entrant::new(recipe));
            }
            Err(error) => {
                arena.interrupt.check()?;
                let reason = format!("it cannot be had here: {error:#}");
                say(format_args!("{}: {reason}", peer.name()))?;
                absent.insert(peer, reason);
            }
        }
    }
    Ok(Contest {
        client: Client {
            program: setup.programs.path("loadgen"),
        },
        forebay: Entrant::new(forebay::recipe(setup)?),
        servers,
        peers: peers.to_vec(),
        bare: peers.contains(&Peer::Libtorch).then(|| Bare::new(setup)),
        absent,
        arena,
    })
}

/// Says what is to come and how long it takes.
fn announce(cells: &[Cell], peers: &[Peer], length: Length, cores: Cores) -> Result<()> {
    let rounds = u32::try_from(length.rounds).unwrap_or(u32::MAX);
    let one = |cell: &Cell| {
        let running = peers.iter().filter(|peer| peer.applies(*cell).is_ok());
        let contestants = u32::try_from(running.count()).unwrap_or(u32::MAX) + 1;
        (cell.window(length.window) * 4 / 3 + OVERHEAD) * contestants
    };
    let starts = A_START * u32::try_from(peers.len() + 1).unwrap_or(u32::MAX);
    let total = (cells.iter().map(one).sum::<Duration>() + starts) * rounds;
    say(format_args!(
        "{} cells, {} rounds of at least {:?}: about {} min; server on core {}, client on core {}, so \
         that both have one of their own",
        cells.len(),
        length.rounds,
        length.window,
        total.as_secs().div_ceil(60),
        cores.server,
        cores.client
    ))
}

/// Returns all figures, for programs.
fn figures(
    cores: Cores,
    length: Length,
    starts: &[Start],
    measured: &[Measured],
) -> serde_json::Value {
    let cells = measured.iter().map(|measured| {
        let by_name = |(peer, outcomes): (&Peer, _)| (peer.name(), json!(outcomes));
        let peers: BTreeMap<_, _> = measured.peers.iter().map(by_name).collect();
        let reasons = measured.not_run.iter();
        let not_run: BTreeMap<_, _> = reasons.map(|(peer, why)| (peer.name(), why)).collect();
        json!({
            "cell": measured.cell.to_string(),
            "forebay": measured.forebay,
            "peers": peers,
            "not_run": not_run,
        })
    });
    json!({
        "schema": "forebay-peers/1",
        "cores": { "client": cores.client, "server": cores.server },
        "rounds": length.rounds,
        "window_s": length.window.as_secs_f64(),
        "starts": starts,
        "cells": cells.collect::<Vec<_>>(),
    })
}

fn write(file: &Path, figures: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_vec_pretty(figures).context("write the figures as JSON")?;
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// Prints a line for every target, and returns how many were missed.
fn judge(starts: &[Start], measured: &[Measured]) -> Result<usize> {
    let (mut missed, mut left_out) = (0, 0);
    let of_start = starts.first().map(targets::of_start).unwrap_or_default();
    let of_cells = targets::all().into_iter().map(|target| {
        let verdict = target.judge(measured);
        (target.line(&verdict), verdict)
    });
    for (line, verdict) in of_start.into_iter().chain(of_cells) {
        missed += usize::from(verdict.fails());
        match verdict {
            Verdict::NotChosen => left_out += 1,
            _ => say(format_args!("{line}"))?,
        }
    }
    if left_out > 0 {
        say(format_args!(
            "{left_out} targets are of cells or peers that were not chosen"
        ))?;
    }
    Ok(missed)
}
