//! `cargo xtask bench peers`: Forebay against what a user would pick instead, on this machine.
//!
//! Each peer is prepared from the registries, serves the same models, and is driven by the same client;
//! client and server have a core each, and contestants take turns within every round. Owns
//! `.cache/peers`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};

use self::{
    cell::{Cell, Model},
    client::Client,
    contestant::Arena,
    cores::Cores,
    libtorch::Bare,
    report::Record,
    rounds::{Contest, Entrant, Length},
};
pub(crate) use self::{options::Options, peer::Peer};
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
mod options;
mod peer;
mod python_peer;
mod report;
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

/// Runs the benchmark; with `check`, fails where it misses a target.
pub(crate) fn command(
    workspace: &Workspace,
    options: &Options,
    check: bool,
    interrupt: &Interrupt,
) -> Result<()> {
    let peers = options.peers();
    let (cells, length) = (options.cells(&peers)?, options.length());
    let cores = Cores::find(options.share_cores)?;
    let programs = build(workspace, interrupt)?;
    let fixtures = workspace.cache("peers/models");
    let names = Model::ALL.map(Model::fixture);
    let maker = programs.path("make-models");
    fixtures::made(workspace, &maker, &fixtures, &names, interrupt)?;
    let setup = Setup {
        workspace,
        programs: &programs,
        fixtures,
        folder: programs.reports("bench/peers")?,
    };
    let arena = Arena {
        cores: cores.clone(),
        await_ready: programs.path("examples/await_ready"),
        folder: setup.folder.clone(),
        interrupt,
    };
    let mut contest = prepare(&setup, &peers, arena)?;
    let (load_average, idling) = (cores::load_average(), cores::idling());
    announce(&cells.run, &peers, length, &cores)?;

    let default = setup.folder.with_extension("json");
    let mut record = Record {
        cores,
        load_average,
        idling,
        length,
        peers,
        starts: contest.starts(length.rounds)?,
        left_out: cells.left_out,
        measured: Vec::new(),
        tables: setup.folder.with_extension("md"),
        json: options.json.clone().unwrap_or(default),
    };
    measure(&mut contest, &cells.run, &mut record)?;
    // Servers that are not needed any more must not outlive a reader of what follows.
    drop(contest);
    say(format_args!("\n{}", record.write()?))?;
    let failed = record.judge()?;
    let (tables, json) = (
        workspace.shown(&record.tables),
        workspace.shown(&record.json),
    );
    say(format_args!("written to {tables} and {json}"))?;
    ensure!(!check || failed == 0, "{failed} targets of peers failed");
    Ok(())
}

/// Measures one cell after the other, and writes what there is after each: all may take hours.
fn measure(contest: &mut Contest<'_>, cells: &[Cell], record: &mut Record) -> Result<()> {
    for (index, &cell) in cells.iter().enumerate() {
        say(format_args!("{} of {}: {cell}", index + 1, cells.len()))?;
        record.measured.push(contest.cell(cell, record.length)?);
        record.write()?;
    }
    Ok(())
}

fn build(workspace: &Workspace, interrupt: &Interrupt) -> Result<Programs> {
    crate::libtorch::ensure(workspace, interrupt)?;
    let what = Build {
        release: true,
        packages: &["forebay-server", "forebay-loadgen", "forebay-tests"],
        bins: &["forebay", "loadgen", "make-models"],
        examples: &["tonic_echo", "await_ready", "bare_model"],
    };
    server::build(workspace, &what, interrupt)
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
fn announce(cells: &[Cell], peers: &[Peer], length: Length, cores: &Cores) -> Result<()> {
    let rounds = u32::try_from(length.rounds).unwrap_or(u32::MAX);
    let one = |cell: &Cell| {
        let running = peers.iter().filter(|peer| peer.applies(*cell).is_ok());
        let contestants = u32::try_from(running.count()).unwrap_or(u32::MAX) + 1;
        (cell.window(length.window) * 4 / 3 + OVERHEAD) * contestants
    };
    let starts = A_START * u32::try_from(peers.len() + 1).unwrap_or(u32::MAX);
    let total = (cells.iter().map(one).sum::<Duration>() + starts) * rounds;
    say(format_args!(
        "{} cells, {} rounds of at least {:?}: about {} min; server on cores {:?}, client on cores {:?}{}; idle cores: {}",
        cells.len(),
        length.rounds,
        length.window,
        total.as_secs().div_ceil(60),
        cores.server,
        cores.client,
        if cores.siblings {
            ", threads of one core"
        } else {
            ""
        },
        cores::idling().as_deref().unwrap_or("unknown"),
    ))
}
