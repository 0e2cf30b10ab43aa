//! What Forebay must reach, and whether it did.
//!
//! Invariant: every target gets a verdict, also one whose cell was not run.

use std::fmt;

use super::{
    Peer,
    cell::{Cell, named},
    results::{Measured, Metric, Outcome, Spread, Start, first_fault},
};

/// Seconds until four models are ready.
const READY_S: f64 = 1.0;
const IDLE_MIB: f64 = 250.0;
const BINARY_MB: f64 = 40.0;

/// The side of a limit on which a figure must lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

/// A ratio, in one cell, against one peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Target {
    pub(crate) cell: Cell,
    pub(crate) peer: Peer,
    pub(crate) metric: Metric,
    pub(crate) bound: Bound,
}

/// Whether a target was met.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Met(Spread),
    Missed(Spread),
    /// Forebay itself failed, or does not tell the figure, which is as bad as a miss.
    Broken(String),
    /// The peer was asked for and could not be had, so that nobody knows.
    Absent(String),
    /// The peer could be had, and has no figures to compare with.
    NotRun(String),
    /// Its cell or its peer was left out.
    NotChosen,
}

impl Bound {
    /// Returns whether `value` lies on the right side; one that is not a number does not.
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
            Self::Below(limit) => value < limit,
        }
    }

    /// Returns how far `value` lies from the limit, in parts of the limit.
    fn distance(self, value: f64) -> f64 {
        let (Self::AtLeast(limit) | Self::AtMost(limit) | Self::Below(limit)) = self;
        (value - limit).abs() / limit
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
            Self::AtMost(limit) => write!(f, "<= {limit}"),
            Self::Below(limit) => write!(f, "< {limit}"),
        }
    }
}

/// Returns every target that is a ratio.
pub(crate) fn all() -> Vec<Target> {
    use Bound::{AtLeast, AtMost, Below};
    use Metric::{Cpu, OfBest, OfFormed, P50, P99, Throughput};
    use Peer::{Echo, GrpcAio, Libtorch, Mlserver, Triton};

    let mut targets = Vec::new();
    let mut add = |cells: &[&str], peer, metric, bound| {
        for name in cells {
            // A whole name names one cell, as a test sees to.
            let cell = named(name)[0];
            targets.push(Target {
                cell,
                peer,
                metric,
                bound,
            });
        }
    };
    let stream = ["identity-4k-stream-c8", "identity-4k-stream-c64"];
    add(&stream, Echo, Throughput, AtLeast(0.65));
    add(&["identity-4k-stream-c1"], Echo, P50, AtMost(1.5));
    let unary = ["identity-4k-unary-c8", "identity-4k-unary-c64"];
    add(&unary, Echo, Throughput, AtLeast(0.8));
    // There the client is the limit.
    let limited = ["identity-1m-stream-c8"];
    let others = [
        "identity-1m-unary-c1",
        "identity-1m-unary-c8",
        "identity-1m-stream-c1",
    ];
    add(&limited, Echo, Throughput, AtLeast(1.0));
    add(&others, Echo, Throughput, AtLeast(1.2));
    add(&limited, Echo, Cpu, AtMost(0.75));
    add(&others, Echo, Cpu, AtMost(0.75));
    // Batching spares the peer calls of its model, so that it must be beaten with it and without.
    for form in ["", "-batched"] {
        let mut add = |names: &[&str], metric, bound| {
            for name in names {
                add(&[&format!("{name}{form}")], Triton, metric, bound);
            }
        };
        add(&stream, Throughput, AtLeast(6.0));
        add(&stream, Cpu, AtMost(0.15));
        add(&["identity-4k-stream-c1"], P50, AtMost(0.4));
        add(&unary, Throughput, AtLeast(3.0));
        for large in [&limited[..], &others] {
            add(large, Throughput, AtLeast(2.5));
            add(large, Cpu, AtMost(0.35));
        }
    }
    let mlp = ["mlp-stream-c64-batched"];
    add(&mlp, Triton, Throughput, AtLeast(4.0));
    add(&mlp, Triton, P99, AtMost(0.3));
    add(&mlp, Libtorch, OfBest, AtLeast(0.5));
    let resnet = ["resnet18-unary-c8-batched", "resnet18-stream-c8-batched"];
    let encoder = ["encoder-unary-c8-batched", "encoder-stream-c8-batched"];
    add(&resnet, Triton, Throughput, AtLeast(1.2));
    add(&encoder, Triton, Throughput, AtLeast(1.0));
    add(&resnet, Libtorch, OfFormed, AtLeast(0.97));
    add(&encoder, Libtorch, OfFormed, AtLeast(0.97));
    for cell in Cell::all() {
        for peer in [Triton, GrpcAio, Mlserver] {
            if peer.applies(cell).is_ok() {
                targets.push(Target {
                    cell,
                    peer,
                    metric: P99,
                    bound: Below(1.0),
                });
            }
        }
    }
    targets
}

impl Target {
    /// Judges what was measured.
    pub(crate) fn judge(&self, cells: &[Measured]) -> Verdict {
        let Some(measured) = cells.iter().find(|measured| measured.cell == self.cell) else {
            return Verdict::NotChosen;
        };
        // First, because a median over the other rounds would hide it.
        if let Some(fault) = first_fault(&measured.forebay) {
            return Verdict::Broken(fault.to_owned());
        }
        // Nothing else is there, as no target is of a cell that its peer cannot be run in.
        if let Some(reason) = measured.not_run.get(&self.peer) {
            return Verdict::Absent(reason.clone());
        }
        let Some(theirs) = measured.peers.get(&self.peer) else {
            return Verdict::NotChosen;
        };
        match measured.ratio(self.peer, self.metric) {
            Some(ratio) if self.bound.holds(ratio.median) => Verdict::Met(ratio),
            Some(ratio) => Verdict::Missed(ratio),
            None if self.metric == Metric::OfFormed && !tells_batches(&measured.forebay) => {
                Verdict::Broken("it tells of no batch".to_owned())
            }
            None => {
                let fault = first_fault(theirs).unwrap_or("no round has that figure");
                Verdict::NotRun(fault.to_owned())
            }
        }
    }

    /// Returns a line for people.
    pub(crate) fn line(&self, verdict: &Verdict) -> String {
        let name = self.peer.name();
        let what = format!("{}: {} / {name}", self.cell, self.metric.name());
        line(&what, self.bound, verdict)
    }
}

impl Verdict {
    /// Returns whether it must fail a check.
    pub(crate) fn fails(&self) -> bool {
        matches!(self, Self::Missed(_) | Self::Broken(_) | Self::Absent(_))
    }
}

/// Returns whether the rows of a batch are known in any round.
fn tells_batches(outcomes: &[Outcome]) -> bool {
    outcomes
        .iter()
        .any(|outcome| matches!(outcome, Outcome::Served(sample) if sample.mean_batch.is_some()))
}

/// Judges start and size of Forebay: one line and one verdict for each target.
pub(crate) fn of_start(start: &Start) -> Vec<(String, Verdict)> {
    let idle = start.idle_bytes.iter();
    let idle: Vec<_> = idle
        .map(|&bytes| bytes as f64 / f64::from(1 << 20))
        .collect();
    let disk = vec![start.disk_bytes as f64 / 1e6];
    // One start that failed breaks what the others were measured for.
    let fault = start.fault.as_deref();
    let figures = [
        (
            "start to four models ready, s",
            (start.ready_s.clone(), fault),
            READY_S,
        ),
        ("idle memory, MiB", (idle, fault), IDLE_MIB),
        ("binary without libtorch, MB", (disk, None), BINARY_MB),
    ];
    let judged = figures.into_iter().map(|(what, (figures, fault), limit)| {
        let bound = Bound::AtMost(limit);
        let verdict = match (fault, Spread::of(figures)) {
            (None, Some(figure)) if bound.holds(figure.median) => Verdict::Met(figure),
            (None, Some(figure)) => Verdict::Missed(figure),
            (fault, _) => Verdict::Broken(fault.unwrap_or("there was no start").to_owned()),
        };
        (line(what, bound, &verdict), verdict)
    });
    judged.collect()
}

fn line(what: &str, bound: Bound, verdict: &Verdict) -> String {
    let figures = |spread: &Spread| {
        let Spread {
            median,
            least,
            greatest,
            ..
        } = spread;
        format!("{median:.3} ({least:.3} to {greatest:.3}), target {bound}")
    };
    match verdict {
        Verdict::Met(spread) => format!("met      {what}: {}", figures(spread)),
        Verdict::Missed(spread) => {
            let percent = 100.0 * bound.distance(spread.median);
            format!("MISSED   {what}: {}, by {percent:.1} %", figures(spread))
        }
        Verdict::Broken(reason) => format!("BROKEN   {what}: Forebay failed: {reason}"),
        Verdict::Absent(reason) => {
            format!("ABSENT   {what}: {reason}; name the others with --peer to leave it out")
        }
        Verdict::NotRun(reason) => format!("not run  {what}: {reason}"),
        Verdict::NotChosen => format!("not chosen  {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::results::tests::{measured, served},
        *,
    };

    fn target(cell: &str, metric: Metric) -> Target {
        let found = all().into_iter().find(|target| {
            target.peer == Peer::Triton && target.metric == metric && target.cell == named(cell)[0]
        });
        found.unwrap()
    }

    #[test]
    fn a_target_is_met_up_to_its_limit_and_a_miss_tells_by_how_much() {
        let target = target("mlp-stream-c64-batched", Metric::Throughput);
        let cell = |ours| {
            let name = "mlp-stream-c64-batched";
            [measured(name, &[ours], Peer::Triton, vec![served(10.0)])]
        };
        assert!(matches!(target.judge(&cell(40.0)), Verdict::Met(_)));
        let verdict = target.judge(&cell(30.0));
        assert!(verdict.fails());
        let line = target.line(&verdict);
        assert!(
            line.starts_with("MISSED") && line.ends_with("by 25.0 %"),
            "{line}"
        );
        assert!(!Bound::AtLeast(1.0).holds(f64::NAN) && !Bound::Below(1.0).holds(1.0));
    }

    const MLP: &str = "mlp-stream-c64-batched";

    fn died() -> Outcome {
        Outcome::Failed("it died".to_owned())
    }

    #[test]
    fn one_round_in_which_forebay_fails_breaks_the_target() {
        let target = target(MLP, Metric::Throughput);
        let theirs = vec![served(1.0), served(1.0)];
        let mut cells = [measured(MLP, &[40.0], Peer::Triton, theirs)];
        assert!(matches!(target.judge(&cells), Verdict::Met(_)));
        cells[0].forebay.push(died());
        let verdict = target.judge(&cells);
        assert_eq!(verdict, Verdict::Broken("it died".to_owned()));
        assert!(verdict.fails());
    }

    #[test]
    fn a_peer_without_figures_fails_no_check() {
        let target = target(MLP, Metric::P99);
        let theirs = measured(MLP, &[1.0], Peer::Triton, vec![died()]);
        let verdict = target.judge(&[theirs]);
        assert_eq!(verdict, Verdict::NotRun("it died".to_owned()));
        assert!(!verdict.fails());
        // It answered, and what it answered with is no figure.
        let theirs = measured(MLP, &[1.0], Peer::Triton, vec![Outcome::Bare(Vec::new())]);
        let verdict = target.judge(&[theirs]);
        assert_eq!(
            verdict,
            Verdict::NotRun("no round has that figure".to_owned())
        );
        let another = measured(MLP, &[1.0], Peer::Echo, vec![served(1.0)]);
        for left_out in [Vec::new(), vec![another]] {
            let verdict = target.judge(&left_out);
            assert_eq!(verdict, Verdict::NotChosen);
            assert!(!verdict.fails());
        }
    }

    #[test]
    fn a_peer_that_was_chosen_and_cannot_be_had_fails_a_check() {
        let target = target(MLP, Metric::P99);
        let mut cell = measured(MLP, &[1.0], Peer::Echo, vec![served(1.0)]);
        cell.not_run.insert(Peer::Triton, "no wheel".to_owned());
        let verdict = target.judge(&[cell]);
        assert!(verdict.fails());
        let line = target.line(&verdict);
        assert!(
            line.starts_with("ABSENT") && line.contains("no wheel; name the others with --peer"),
            "{line}"
        );
    }

    #[test]
    fn every_target_is_of_a_cell_that_its_peer_can_be_run_in() {
        for target in all() {
            assert_eq!(target.peer.applies(target.cell), Ok(()));
        }
    }

    #[test]
    fn forebay_must_tell_of_its_batches_where_the_bare_loop_is_compared_at_them() {
        let name = "resnet18-unary-c8-batched";
        let found = all()
            .into_iter()
            .find(|target| target.metric == Metric::OfFormed && target.cell == named(name)[0]);
        let bare = Outcome::Bare(Vec::new());
        let mut cell = measured(name, &[1.0], Peer::Libtorch, vec![bare]);
        for outcome in &mut cell.forebay {
            if let Outcome::Served(sample) = outcome {
                sample.mean_batch = None;
            }
        }
        let verdict = found.unwrap().judge(&[cell]);
        assert_eq!(verdict, Verdict::Broken("it tells of no batch".to_owned()));
    }

    #[test]
    fn every_peer_has_a_p99_in_every_cell_that_it_can_be_run_in() {
        let p99 = |peer| {
            let of = |target: &&Target| target.peer == peer && target.bound == Bound::Below(1.0);
            all().iter().filter(of).count()
        };
        assert_eq!(p99(Peer::Triton), 60);
        // Without batching, and without streams.
        assert_eq!((p99(Peer::GrpcAio), p99(Peer::Mlserver)), (30, 30));
    }

    #[test]
    fn a_server_that_did_not_start_meets_nothing() {
        let mut start = Start {
            name: "forebay",
            ready_s: vec![0.5, 1.5, 0.9],
            idle_bytes: Vec::new(),
            disk_bytes: 40_000_001,
            fault: None,
        };
        let fails = |start: &Start| -> Vec<bool> {
            let judged = of_start(start).into_iter();
            judged.map(|(_, verdict)| verdict.fails()).collect()
        };
        assert_eq!(fails(&start), [false, true, true]);
        start.idle_bytes = vec![1 << 20; 3];
        start.disk_bytes = 1;
        assert_eq!(fails(&start), [false, false, false]);
        // One start failed, and others did not.
        start.fault = Some("it died".to_owned());
        assert_eq!(fails(&start), [true, true, false]);
        let (line, _) = &of_start(&start)[0];
        assert!(line.ends_with("Forebay failed: it died"), "{line}");
    }
}
