//! What the engines move, beside each other on one file: `engine_rate DIR [BYTES [PIECE [DEPTH]]]`.
//!
//! The file is allocated and written once before anything is timed. Each round runs every engine,
//! so that a disk that changes its pace does so for all; the figures are medians.

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use forebay_spill::{
    engine::{
        Direction, Engine, FileId, Op,
        choose::{self, Choice},
    },
    memory::{Piece, Pool},
    segment::Dir,
};

const ROUNDS: usize = 5;

#[derive(Debug, Clone, Copy)]
struct Load {
    bytes: u64,
    piece: usize,
    depth: usize,
}

struct Lane {
    name: &'static str,
    engine: Box<dyn Engine>,
    file: FileId,
    idle: Vec<Piece>,
    write: Vec<f64>,
    read: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default| args.get(place).map_or(Ok(default), |arg| arg.parse());
    let load = Load {
        bytes: number(1, 1 << 30)?,
        piece: usize::try_from(number(2, 1 << 20)?)?,
        depth: usize::try_from(number(3, 32)?)?,
    };
    let dir = args.first().map_or("/tmp/forebay-rate", String::as_str);
    let dir = Dir::open(Path::new(dir), false)?;
    let file = dir.create(load.bytes)?;
    let pool = Pool::new(0);
    let mut lanes = Vec::new();
    for (name, choice, register) in [
        ("io_uring registered", Choice::IoUring, true),
        ("io_uring", Choice::IoUring, false),
        ("psync", Choice::Psync, false),
    ] {
        let mut engine = choose::open(&dir, choice, load.depth)?.engine;
        let mut idle = (pool.lease(load.piece * load.depth)).into_pieces(load.piece);
        idle.iter_mut().for_each(|piece| piece.fill(0x5a));
        let registered = register && engine.register(&mut idle);
        if register != registered {
            return Err("buffers cannot be registered: raise `ulimit -l`".into());
        }
        lanes.push(Lane {
            name,
            file: engine.add_file(file.clone())?,
            engine,
            idle,
            write: Vec::new(),
            read: Vec::new(),
        });
    }
    lanes[0].run(load, Direction::Write)?;
    for _ in 0..ROUNDS {
        for lane in &mut lanes {
            let rate = lane.run(load, Direction::Write)?;
            lane.write.push(rate);
        }
        for lane in &mut lanes {
            let rate = lane.run(load, Direction::Read)?;
            lane.read.push(rate);
        }
    }
    report(load, lanes);
    Ok(())
}

impl Lane {
    /// Moves the whole file once. Returns MiB/s.
    fn run(&mut self, load: Load, direction: Direction) -> Result<f64, Box<dyn Error>> {
        let mut offsets = (0..load.bytes).step_by(load.piece).peekable();
        let (mut done, mut in_flight) = (Vec::new(), 0_usize);
        let begin = Instant::now();
        while in_flight > 0 || offsets.peek().is_some() {
            while let Some(memory) = self.idle.pop() {
                let Some(offset) = offsets.next() else {
                    self.idle.push(memory);
                    break;
                };
                self.engine.push(Op {
                    id: offset,
                    direction,
                    file: self.file,
                    offset,
                    memory,
                    skip: 0,
                });
                in_flight += 1;
            }
            self.engine.wait(None, &mut done);
            for done in done.drain(..) {
                if done.result? != load.piece {
                    return Err("a transfer was short".into());
                }
                self.idle.push(done.op.memory);
                in_flight -= 1;
            }
        }
        Ok(rate(load.bytes, begin.elapsed()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs few digits")]
fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / time.as_secs_f64()
}

#[expect(clippy::print_stdout, reason = "a benchmark tells what it measures")]
fn report(load: Load, lanes: Vec<Lane>) {
    println!("{load:?}, {ROUNDS} rounds: median [min-max] MiB/s");
    for mut lane in lanes {
        for (way, rates) in [("write", &mut lane.write), ("read", &mut lane.read)] {
            rates.sort_by(f64::total_cmp);
            let (low, mid, high) = (rates[0], rates[ROUNDS / 2], rates[ROUNDS - 1]);
            println!("{:20} {way:5} {mid:6.0} [{low:.0}-{high:.0}]", lane.name);
        }
    }
}
