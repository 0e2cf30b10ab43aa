//! What a run leaves behind: its figures for programs, tables, and a verdict on every target.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    Peer,
    cell::Cell,
    cores::Cores,
    results::{Measured, Metric, Start},
    rounds::Length,
    table,
    targets::{self, Verdict},
};
use crate::say;

/// All that was measured so far.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) cores: Cores,
    /// The system's load before the first run: whether the machine was quiet.
    pub(super) load_average: Option<String>,
    /// What idle cores do, which every wake-up depends on.
    pub(super) idling: Option<String>,
    pub(super) length: Length,
    /// The peers that were chosen.
    pub(super) peers: Vec<Peer>,
    pub(super) starts: Vec<Start>,
    /// Cells that nobody is run in, and why.
    pub(super) left_out: Vec<(Cell, &'static str)>,
    pub(super) measured: Vec<Measured>,
    /// Where the tables go.
    pub(super) tables: PathBuf,
    /// Where the figures go.
    pub(super) json: PathBuf,
}

impl Record {
    /// Writes what there is to both files, and returns the tables.
    pub(super) fn write(&self) -> Result<String> {
        let mut tables = table::all(&self.starts, &self.measured, &self.peers);
        tables.push_str(&table::left_out(&self.left_out));
        put(&self.tables, tables.as_bytes())?;
        let figures = serde_json::to_vec_pretty(&self.figures());
        put(&self.json, &figures.context("write the figures as JSON")?)?;
        Ok(tables)
    }

    fn figures(&self) -> Value {
        json!({
            "schema": "forebay-peers/1",
            "cores": {
                "client": self.cores.client,
                "server": self.cores.server,
                "threads_of_one": self.cores.siblings,
            },
            "load_average_before": self.load_average,
            "idle_cores": self.idling,
            "rounds": self.length.rounds,
            "window_s": self.length.window.as_secs_f64(),
            "starts": self.starts,
            "cells": self.measured.iter().map(cell).collect::<Vec<_>>(),
            "not_run": self.left_out.iter().map(|(cell, why)| json!({
                "cell": cell.to_string(), "why": why,
            })).collect::<Vec<_>>(),
        })
    }

    /// Prints a line for every target, and returns how many fail a check.
    pub(super) fn judge(&self) -> Result<usize> {
        let (mut failed, mut left_out) = (0, 0);
        let ours = self.starts.first();
        let of_start = ours.map(targets::of_start).unwrap_or_default();
        let of_cells = targets::all().into_iter().map(|target| {
            let verdict = target.judge(&self.measured);
            (target.line(&verdict), verdict)
        });
        for (line, verdict) in of_start.into_iter().chain(of_cells) {
            failed += usize::from(verdict.fails());
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
        Ok(failed)
    }
}

/// Returns the figures of one cell: every round, and the ratios over them.
fn cell(measured: &Measured) -> Value {
    let peers = measured.peers.iter().map(|(&peer, outcomes)| {
        let ratios = Metric::ALL.into_iter().filter_map(|metric| {
            let ratio = measured.ratio(peer, metric)?;
            Some((metric.name(), ratio))
        });
        let ratios: BTreeMap<_, _> = ratios.collect();
        let told = json!({ "rounds": outcomes, "forebay_over_it": ratios });
        (peer.name(), told)
    });
    let reasons = measured.not_run.iter();
    let not_run: BTreeMap<_, _> = reasons.map(|(peer, why)| (peer.name(), why)).collect();
    json!({
        "cell": measured.cell.to_string(),
        "forebay": measured.forebay,
        "peers": peers.collect::<BTreeMap<_, _>>(),
        "not_run": not_run,
    })
}

fn put(file: &Path, text: &[u8]) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
