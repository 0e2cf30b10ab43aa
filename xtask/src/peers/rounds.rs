//! The rounds: in each, every contestant runs the same cell once, one after the other, in an order that
//! changes from round to round.
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
            match Contestant::start(arena, &self.recipe, false).and_then(settled) {
                Ok((ready_s, idle_bytes)) => {
                    start.ready_s.push(ready_s);
                    start.idle_bytes.push(idle_bytes);
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

/// Returns after how many seconds `server` was ready, and its memory a while later.
fn settled(mut server: Contestant) -> Result<(f64, u64)> {
    thread::sleep(SETTLING);
    if let Some(status) = server.ended()? {
        bail!("it ended with {status} soon after it was ready");
    }
    let idle_bytes = server.tree().proportional()?;
    Ok((server.ready_after.as_secs_f64(), idle_bytes))
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
        let takes_part =
            |peer: &Peer| !self.absent.contains_key(peer) && peer.applies(cell).is_ok();
        let peers: Vec<Peer> = self.peers.iter().copied().filter(takes_part).collect();
        for round in 0..length.rounds {
            for turn in turns(&peers, round) {
                self.take(turn, &mut measured, window)?;
            }
        }
        for (name, reason) in faults(&measured) {
            say(format_args!("{cell}: {name}: {reason}"))?;
        }
        Ok(measured)
    }

    /// Lets a peer, or Forebay, run the cell once.
    fn take(
        &mut self,
        turn: Option<Peer>,
        measured: &mut Measured,
        window: Duration,
    ) -> Result<()> {
        let (arena, client, cell) = (&self.arena, &self.client, measured.cell);
        let Some(peer) = turn else {
            let outcome = self.forebay.run(arena, client, cell, window)?;
            measured.forebay.push(outcome);
            return Ok(());
        };
        let outcome = match (self.servers.get_mut(&peer), &self.bare) {
            (Some(entrant), _) => entrant.run(arena, client, cell, window)?,
            (None, Some(bare)) => {
                let rates = bare.run(arena, cell, window);
                arena.interrupt.check()?;
                match rates {
                    Ok(rates) => Outcome::Bare(rates),
                    Err(error) => Outcome::Failed(format!("{error:#}")),
                }
            }
            (None, None) => bail!("{} was not prepared", peer.name()),
        };
        measured.peers.entry(peer).or_default().push(outcome);
        Ok(())
    }
}

/// Returns the order of Forebay, which is none of `peers`, and of them in a round. It changes so that
/// over the rounds each comes first, and none runs after the same other one every time: the bare loop
/// leaves caches and a clock that no server does.
fn turns(peers: &[Peer], round: usize) -> Vec<Option<Peer>> {
    let all: Vec<_> = std::iter::once(None)
        .chain(peers.iter().copied().map(Some))
        .collect();
    let count = all.len();
    // First, last, second, last but one: neighbours lie a different distance apart each, so that
    // those of a contestant change as all move on by one.
    let places = (0..count).map(|place| match place % 2 {
        0 => place / 2,
        _ => count - 1 - place / 2,
    });
    let mut turns: Vec<_> = places.map(|place| all[(place + round) % count]).collect();
    // With an odd count two distances are the same, in one direction.
    if count % 2 == 1 && round % 2 == 1 {
        turns.reverse();
    }
    turns
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_contestant_runs_once_in_every_round_and_is_first_as_often_as_any() {
        for peers in 0..=Peer::ALL.len() {
            let peers = &Peer::ALL[..peers];
            let mut first = BTreeMap::new();
            for round in 0..2 * (peers.len() + 1) {
                let turns = turns(peers, round);
                *first.entry(turns[0]).or_insert(0) += 1;
                let each: BTreeSet<_> = turns.iter().collect();
                assert_eq!(
                    (turns.len(), each.len()),
                    (peers.len() + 1, peers.len() + 1)
                );
            }
            assert!(first.values().all(|&times| times == 2), "{first:?}");
            assert_eq!(first.len(), peers.len() + 1);
        }
    }

    #[test]
    fn nobody_runs_after_the_same_one_in_every_round() {
        for peers in 2..=Peer::ALL.len() {
            let rounds: Vec<_> = (0..5)
                .map(|round| turns(&Peer::ALL[..peers], round))
                .collect();
            for contestant in &rounds[0] {
                let before = |turns: &Vec<Option<Peer>>| {
                    let place = turns.iter().position(|turn| turn == contestant).unwrap();
                    place.checked_sub(1).map(|place| turns[place])
                };
                let others: BTreeSet<_> = rounds.iter().filter_map(before).collect();
                assert!(others.len() > 1, "{contestant:?} of {peers}");
            }
        }
    }
}
