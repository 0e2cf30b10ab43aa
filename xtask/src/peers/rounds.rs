//! The rounds: in each, every contestant runs the same cell once, one after the other.
//!
//! All servers are up, so that none is cold, and only one is driven at a time. One that ends is told
//! as failed in that round and started anew for the next.

use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

use anyhow::{Result, bail};

use super::{
    Peer,
    cell::Cell,
    client::Client,
    contestant::{Arena, Contestant, Recipe},
    libtorch::Bare,
    results::{Measured, Outcome, Start, first_fault},
};
use crate::say;

/// After a start, until memory is looked at.
const SETTLING: Duration = Duration::from_secs(1);

/// Starts of a server that may fail in a row.
const TRIES: usize = 3;

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length {
    pub(super) rounds: usize,
    pub(super) window: Duration,
}

/// A server of the contest, running or not.
pub(super) struct Entrant {
    recipe: Recipe,
    running: Option<Contestant>,
    /// Starts in a row that failed; Triton's sometimes do.
    failed_starts: usize,
    /// Why it does not come up, after as many as there are tries.
    hopeless: Option<String>,
}

/// All who take part.
pub(super) struct Contest<'a> {
    pub(super) arena: Arena<'a>,
    pub(super) client: Client,
    pub(super) forebay: Entrant,
    /// The peers that were chosen.
    pub(super) peers: Vec<Peer>,
    pub(super) servers: BTreeMap<Peer, Entrant>,
    pub(super) bare: Option<Bare>,
    /// Peers that could not be had, and why.
    pub(super) absent: BTreeMap<Peer, String>,
}

impl Entrant {
    pub(super) fn new(recipe: Recipe) -> Self {
        Self {
            recipe,
            running: None,
            failed_starts: 0,
            hopeless: None,
        }
    }

    /// Returns the server, started if it is not up.
    fn up(&mut self, arena: &Arena<'_>) -> Result<&Contestant> {
        if let Some(reason) = &self.hopeless {
            bail!("{reason}");
        }
        if let Some(running) = &mut self.running
            && running.ended()?.is_some()
        {
            self.running = None;
        }
        if self.running.is_none() {
            match Contestant::start(arena, &self.recipe, true) {
                Ok(started) => (self.running, self.failed_starts) = (Some(started), 0),
                Err(error) => {
                    arena.interrupt.check()?;
                    self.failed_starts += 1;
                    if self.failed_starts >= TRIES {
                        self.hopeless = Some(format!("{error:#}"));
                    }
                    return Err(error);
                }
            }
        }
        Ok(self.running.as_ref().expect("it was just started"))
    }

    /// Runs one cell once.
    fn run(
        &mut self,
        arena: &Arena<'_>,
        client: &Client,
        cell: Cell,
        window: Duration,
    ) -> Result<Outcome> {
        let tried = self
            .up(arena)
            .and_then(|server| client.run(arena, server, cell, window));
        // An interrupted run is no failure of the server.
        arena.interrupt.check()?;
        Ok(match tried {
            Ok(sample) => Outcome::Served(sample),
            Err(error) => Outcome::Failed(self.fault(&error)),
        })
    }

    /// Returns why a run failed: the server's end where it ended.
    fn fault(&mut self, error: &anyhow::Error) -> String {
        let ended = self
            .running
            .as_mut()
            .and_then(|running| running.ended().ok()?);
        match ended {
            Some(status) => format!("{} ended with {status}", self.recipe.name),
            None => format!("{error:#}"),
        }
    }

    /// Starts the server with four models, `times` times, and measures that.
    fn start(&self, arena: &Arena<'_>, times: usize) -> Result<Start> {
        let mut start = Start {
            name: self.recipe.name,
            ready_s: Vec::new(),
            idle_bytes: Vec::new(),
            disk_bytes: self.recipe.files.iter().map(|path| bytes_of(path)).sum(),
            fault: None,
        };
        let mut failed = 0;
        while start.ready_s.len() < times && failed < TRIES {
            match Contestant::start(arena, &self.recipe, false) {
                Ok(server) => {
                    start.ready_s.push(server.ready_after.as_secs_f64());
                    thread::sleep(SETTLING);
                    start.idle_bytes.push(server.tree().proportional()?);
                }
                Err(error) => {
                    arena.interrupt.check()?;
                    start.fault = Some(format!("{error:#}"));
                    failed += 1;
                }
            }
        }
        Ok(start)
    }
}

impl Contest<'_> {
    /// Measures the start of each server, in turn.
    pub(super) fn starts(&self, times: usize) -> Result<Vec<Start>> {
        let servers = self.servers.values();
        std::iter::once(&self.forebay)
            .chain(servers)
            .map(|entrant| entrant.start(&self.arena, times))
            .collect()
    }

    /// Measures one cell.
    pub(super) fn cell(&mut self, cell: Cell, length: Length) -> Result<Measured> {
        let mut measured = Measured {
            cell,
            forebay: Vec::new(),
            peers: BTreeMap::new(),
            not_run: self.absent.clone(),
        };
        for &peer in &self.peers {
            if let Err(reason) = peer.applies(cell) {
                measured.not_run.insert(peer, reason.to_owned());
            }
        }
        let window = cell.window(length.window);
        for _ in 0..length.rounds {
            self.round(&mut measured, window)?;
        }
        for (name, reason) in faults(&measured) {
            say(format_args!("{cell}: {name}: {reason}"))?;
        }
        Ok(measured)
    }

    /// Lets every contestant run the cell once.
    fn round(&mut self, measured: &mut Measured, window: Duration) -> Result<()> {
        let (arena, client) = (&self.arena, &self.client);
        let cell = measured.cell;
        let ours = self.forebay.run(arena, client, cell, window)?;
        measured.forebay.push(ours);
        for (&peer, entrant) in &mut self.servers {
            if peer.applies(cell).is_ok() {
                let outcome = entrant.run(arena, client, cell, window)?;
                measured.peers.entry(peer).or_default().push(outcome);
            }
        }
        if let Some(bare) = &self.bare
            && Peer::Libtorch.applies(cell).is_ok()
        {
            let rates = bare.run(arena, cell, window);
            arena.interrupt.check()?;
            let outcome = match rates {
                Ok(rates) => Outcome::Bare(rates),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            let outcomes = measured.peers.entry(Peer::Libtorch).or_default();
            outcomes.push(outcome);
        }
        Ok(())
    }
}

/// Returns what went wrong, one line for each contestant that had a round without figures.
fn faults(measured: &Measured) -> Vec<(&'static str, &str)> {
    let ours = first_fault(&measured.forebay).map(|fault| ("forebay", fault));
    let theirs = measured
        .peers
        .iter()
        .filter_map(|(peer, outcomes)| first_fault(outcomes).map(|fault| (peer.name(), fault)));
    ours.into_iter().chain(theirs).collect()
}

/// Returns the bytes of a file, or of all files below a folder; what cannot be read counts nothing.
fn bytes_of(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !found.is_dir() {
        return found.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| bytes_of(&entry.path())).sum()
}
