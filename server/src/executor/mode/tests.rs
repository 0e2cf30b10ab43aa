use std::num::NonZeroUsize;

use super::*;

const US: Duration = Duration::from_micros(1);

/// Runs batches through a chooser, with times that are made up for each way.
struct Bench {
    chooser: Chooser,
    now: Instant,
    /// Before them, on the host.
    gathering: Duration,
    /// h2d, compute, d2h.
    stages: [Duration; 3],
    /// What a batch costs more than its stages: inline, and in company through the stages.
    overheads: [Duration; 2],
    /// What each piece costs more.
    piece: Duration,
    in_company: bool,
    may_cut: bool,
    /// Whether another batch of another size comes while every other one runs on its own.
    visited: bool,
    spent: Duration,
}

impl Bench {
    fn new(mode: Mode, stages: [u32; 3], overheads: [u32; 2]) -> Self {
        Self {
            chooser: Chooser::new(mode, MicroBatches::Auto),
            now: Instant::now(),
            gathering: Duration::ZERO,
            stages: stages.map(|us| us * US),
            overheads: overheads.map(|us| us * US),
            piece: 50 * US,
            in_company: false,
            may_cut: true,
            visited: false,
            spent: Duration::ZERO,
        }
    }

    fn costs(&self, path: Path) -> Duration {
        let all = self.gathering + self.stages.iter().sum::<Duration>();
        let slowest = self.gathering.max(self.stages.into_iter().max().unwrap());
        match path {
            Path::Inline => all + self.overheads[0],
            Path::Stages if self.in_company => slowest + self.overheads[1],
            Path::Stages => all + self.overheads[1],
            Path::Cut(pieces) => {
                let pieces = u32::try_from(pieces).unwrap();
                (all + slowest * (pieces - 1)) / pieces + self.overheads[1] + self.piece * pieces
            }
        }
    }

    fn took(&self) -> Took {
        Took {
            gathering: self.gathering,
            stages: self.stages,
        }
    }

    /// Runs a batch and returns its way.
    fn batch(&mut self, rows: usize) -> Path {
        let at = self.now;
        let taken = self.chooser.choose(Arrival {
            rows,
            in_company: self.in_company,
            may_cut: self.may_cut,
            queued: at,
        });
        let took = self.costs(taken.path);
        self.now += took;
        self.spent += took;
        self.chooser.observe(&taken, self.now, self.took());
        self.visit();
        taken.path
    }

    fn visit(&mut self) {
        if self.visited {
            let taken = self.chooser.choose(Arrival {
                rows: 1,
                in_company: false,
                may_cut: false,
                queued: self.now - US,
            });
            self.now += US;
            self.chooser.observe(&taken, self.now, self.took());
        }
    }

    /// Returns how often each way was gone in so many batches: inline, stages, cut.
    fn count(&mut self, batches: usize) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..batches {
            match self.batch(8) {
                Path::Inline => counts[0] += 1,
                Path::Stages => counts[1] += 1,
                Path::Cut(_) => counts[2] += 1,
            }
        }
        counts
    }
}

#[test]
fn in_company_the_way_with_the_shorter_gaps_is_found() {
    for (stages, overheads, best) in [
        // The pass hides what handing the turn on costs.
        ([1, 1000, 1], [40, 20], 1),
        ([1000, 1000, 1000], [10, 50], 1),
        // There is nothing to hide it behind.
        ([1, 5, 1], [10, 60], 0),
        ([1, 5, 1], [60, 10], 1),
    ] {
        let mut bench = Bench::new(Mode::Auto, stages, overheads);
        bench.in_company = true;
        bench.count(1000);
        let counts = bench.count(1000);
        // Of a way that loses by little, more is tried.
        assert!(counts[best] >= 800, "{stages:?} {overheads:?}: {counts:?}");
    }
}

#[test]
fn on_its_own_a_batch_runs_inline_unless_others_came_meanwhile() {
    for (visited, best) in [(false, 0), (true, 1)] {
        let mut bench = Bench::new(Mode::Auto, [100, 100, 100], [10, 20]);
        bench.piece = 500 * US;
        bench.visited = visited;
        bench.count(1000);
        let counts = bench.count(1000);
        assert!(counts[best] >= 800, "{visited}: {counts:?}");
    }
}

#[test]
fn who_waited_for_a_batch_that_ran_inline_was_in_company() {
    let mut chooser = Chooser::new(Mode::Auto, MicroBatches::Off);
    let start = Instant::now();
    let arrival = |queued: u32| Arrival {
        rows: 1,
        in_company: false,
        may_cut: false,
        queued: start + queued * US,
    };
    let first = chooser.choose(arrival(0));
    assert_eq!(first.path, Path::Inline);
    let took = Took {
        gathering: Duration::ZERO,
        stages: [100 * US; 3],
    };
    chooser.observe(&first, start + 300 * US, took);
    assert_eq!(chooser.choose(arrival(200)).path, Path::Stages);
    assert_eq!(chooser.choose(arrival(302)).path, Path::Inline);
}

#[test]
fn a_batch_on_its_own_is_cut_where_its_copies_are_worth_hiding() {
    let mut bench = Bench::new(Mode::Auto, [10_000, 10_000, 10_000], [10, 10]);
    bench.count(300);
    let counts = bench.count(300);
    assert!(counts[2] >= 250, "{counts:?}");
    assert_eq!(bench.batch(8), Path::Cut(8));
    // Pieces that cost more than they hide.
    bench.piece = 20_000 * US;
    bench.count(3000);
    let counts = bench.count(300);
    assert_eq!(counts[2], 0, "{counts:?}");
}

#[test]
fn a_batch_that_must_not_be_cut_any_more_is_whole() {
    let mut bench = Bench::new(Mode::Auto, [10_000, 10_000, 10_000], [10, 10]);
    bench.count(600);
    assert_eq!(bench.batch(8), Path::Cut(8));
    bench.may_cut = false;
    assert_eq!(bench.count(1000)[2], 0);
}

#[test]
fn a_batch_on_its_own_is_cut_where_its_gathering_is_worth_hiding() {
    let mut bench = Bench::new(Mode::Auto, [500, 3000, 50], [50, 50]);
    bench.gathering = 2000 * US;
    bench.count(300);
    let counts = bench.count(300);
    assert!(counts[2] >= 250, "{counts:?}");
}

#[test]
fn trials_that_lose_cost_less_than_a_hundredth() {
    for in_company in [false, true] {
        // Stages cost three times as much, and could be faster for all that events tell.
        let mut bench = Bench::new(Mode::Auto, [1, 20, 1], [10, 70]);
        bench.in_company = in_company;
        bench.count(1000);
        bench.spent = Duration::ZERO;
        bench.count(20_000);
        let best = bench.costs(Path::Inline) * 20_000;
        let share = best.div_duration_f64(bench.spent);
        assert!(share >= 0.99, "{share}");
    }
}

#[test]
fn many_sizes_in_company_are_decided_together() {
    decided_together(20, 200, 0.99);
    // So many that one trial is too short, and a few sizes only come after it.
    decided_together(300, 2000, 0.97);
}

fn decided_together(sizes: u32, most_astray: usize, least_share: f64) {
    // Which way is faster by about three times, and what a batch then takes more than its pass.
    for (overheads, best, other) in [
        ([10, 150], Path::Inline, Path::Stages),
        ([150, 30], Path::Stages, Path::Inline),
    ] {
        let mut bench = Bench::new(Mode::Auto, [1, 20, 1], overheads);
        bench.in_company = true;
        let (mut random, mut least) = (1u32, Duration::ZERO);
        let mut run = |bench: &mut Bench, batches: usize| {
            let mut astray = 0;
            for _ in 0..batches {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let rows = 1 + (random >> 16) % sizes;
                bench.stages[1] = (20 + 2 * rows) * US;
                least += bench.costs(best);
                let path = bench.batch(usize::try_from(rows).unwrap());
                astray += usize::from(path == other);
            }
            (astray, std::mem::take(&mut least))
        };
        run(&mut bench, 2000);
        bench.spent = Duration::ZERO;
        let (astray, least) = run(&mut bench, 20_000);
        assert!(
            astray <= most_astray,
            "{best:?}: {astray} went the other way"
        );
        let share = least.div_duration_f64(bench.spent);
        assert!(share >= least_share, "{best:?}: {share}");
    }
}

#[test]
fn a_size_beyond_those_that_are_learned_runs_inline_on_its_own() {
    let mut bench = Bench::new(Mode::Auto, [1, 20, 1], [10, 70]);
    for rows in 1..=SIZES + 1 {
        assert_eq!(bench.batch(rows), Path::Inline);
    }
    assert_eq!(bench.chooser.sizes.len(), SIZES);
}

#[test]
fn a_choice_follows_what_is_measured_later() {
    let mut bench = Bench::new(Mode::Auto, [1, 5, 1], [10, 60]);
    bench.in_company = true;
    bench.count(1000);
    assert!(bench.count(100)[0] >= 90);
    bench.stages = [1000 * US; 3];
    bench.count(1000);
    assert!(bench.count(100)[1] >= 90);
    bench.stages = [US, 5 * US, US];
    bench.count(5000);
    assert!(bench.count(100)[0] >= 90);
}

#[test]
fn equals_do_not_take_turns() {
    let mut bench = Bench::new(Mode::Auto, [1, 20, 1], [10, 10]);
    let mut changes = 0;
    let mut before = Path::Inline;
    for batch in 0..20_000u32 {
        // Noise of three percent, the same for both.
        bench.overheads = [(10 + batch * 7919 % 3) * US; 2];
        bench.batch(8);
        let holder = bench.chooser.sizes[&8].alone.holder();
        changes += usize::from(holder != before);
        before = holder;
    }
    assert!(changes <= 2, "{changes} changes");
}

#[test]
fn no_way_is_tried_that_cannot_gain() {
    // All that a batch takes is its stages, so inline could not be faster.
    let mut bench = Bench::new(Mode::Auto, [1000, 1000, 1000], [0, 10]);
    bench.in_company = true;
    assert_eq!(bench.count(1000)[0], 0);
    let mut bench = Bench::new(Mode::Auto, [1, 1000, 1], [0, 1]);
    assert_eq!(bench.count(1000), [1000, 0, 0]);
    // Pieces could hide next to nothing of what it takes, most of which is not its stages.
    let mut bench = Bench::new(Mode::Auto, [1, 20, 1], [400, 10]);
    assert_eq!(bench.count(1000), [1000, 0, 0]);
}

#[test]
fn a_mode_that_is_set_holds() {
    for in_company in [false, true] {
        let mut bench = Bench::new(Mode::Inline, [1000, 1000, 1000], [500, 0]);
        bench.in_company = in_company;
        assert_eq!(bench.count(300), [300, 0, 0]);
        let mut bench = Bench::new(Mode::Stages, [1, 5, 1], [0, 500]);
        bench.in_company = in_company;
        assert_eq!(bench.count(300)[0], 0);
    }
    let mut bench = Bench::new(Mode::Auto, [1000, 1000, 1000], [0, 0]);
    bench.chooser.micro = MicroBatches::Off;
    assert_eq!(bench.count(300)[2], 0);
    bench.chooser.micro = MicroBatches::Pieces(NonZeroUsize::new(4).unwrap());
    assert_eq!(bench.batch(8), Path::Cut(4));
    assert_eq!(bench.batch(3), Path::Inline);
}
