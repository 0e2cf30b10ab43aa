//! Whatever fails, and whatever is dropped meanwhile, all space and memory comes back in the end.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::{
    extent::{Extent, padded},
    memory::Pool,
    store::{Answer, entry::WritePart},
};

const DISKS: u16 = 2;
const SEGMENT: u64 = 4 << 20;
const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const ENOSPC: i32 = 28;

#[derive(Debug, Clone)]
enum Step {
    Offload { len: usize, buffer: bool },
    Drop(usize),
    Ask { which: usize, take: bool },
    Forget(usize),
    Pick { dir: usize, grows: bool },
    Land { which: usize, errno: Option<i32> },
    Damage(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![0..20_000_usize, 0..300_000_usize, 1_usize << 20..10 << 20];
    let errno = prop_oneof![
        4 => Just(None),
        1 => prop::sample::select(vec![EIO, ENOMEM, ENOSPC]).prop_map(Some),
    ];
    let which = any::<usize>;
    prop_oneof![
        4 => (len, any::<bool>()).prop_map(|(len, buffer)| Step::Offload { len, buffer }),
        1 => which().prop_map(Step::Drop),
        2 => (which(), any::<bool>()).prop_map(|(which, take)| Step::Ask { which, take }),
        1 => which().prop_map(Step::Forget),
        8 => (0..usize::from(DISKS), prop::bool::weighted(0.8))
            .prop_map(|(dir, grows)| Step::Pick { dir, grows }),
        6 => (which(), errno).prop_map(|(which, errno)| Step::Land { which, errno }),
        1 => which().prop_map(Step::Damage),
        1 => (0..7_u64).prop_map(Step::Pass),
    ]
}

enum Flight {
    Write(usize, Vec<WritePart>),
    Read(ReadPart),
}

/// A future that somebody holds.
struct Waiting {
    entry: u64,
    take: bool,
    _answer: oneshot::Receiver<Answer>,
}

/// Does what the spill threads and the callers do, in any order.
struct World {
    core: Core,
    pool: Pool,
    now: Instant,
    parked: Vec<u64>,
    waiting: Vec<Waiting>,
    flights: Vec<Flight>,
    /// What failed as only a bad place does.
    bad: HashSet<Extent>,
}

impl World {
    fn new() -> Self {
        let mut core = bare(DISKS);
        core.config.segment_bytes = SEGMENT;
        core.config.capacity_bytes = 4 * SEGMENT;
        Self {
            core,
            pool: Pool::new(0),
            now: Instant::now(),
            parked: Vec::new(),
            waiting: Vec::new(),
            flights: Vec::new(),
            bad: HashSet::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Offload { len, buffer } => {
                let data = match buffer {
                    true => self.pool.lease(len).into(),
                    false => Data::from(vec![0; len]),
                };
                self.parked.extend(self.core.admit(data, None, self.now));
            }
            Step::Drop(which) => {
                if let Some(id) = take(&mut self.parked, which) {
                    self.waiting.retain(|one| one.entry != id);
                    self.core.abandon(id);
                }
            }
            Step::Ask { which, take } => self.ask(which, take),
            Step::Forget(which) => self.forget(which),
            Step::Pick { dir, grows } => {
                self.pick(dir, grows);
            }
            Step::Land { which, errno } => {
                if let Some(flight) = take(&mut self.flights, which) {
                    self.land(flight, errno);
                }
            }
            Step::Damage(which) => self.damage(which),
            Step::Pass(secs) => self.now += Duration::from_secs(secs),
        }
        std::mem::take(&mut self.core.after).run();
        let stats = self.core.stats();
        assert!(stats.used_bytes <= stats.capacity_bytes);
    }

    /// Who takes a tensor has no read of it any more.
    fn ask(&mut self, which: usize, take: bool) {
        let Some(entry) = self.parked.get(which % self.parked.len().max(1)).copied() else {
            return;
        };
        if take {
            self.parked.retain(|id| *id != entry);
            self.waiting.retain(|one| one.entry != entry);
        }
        let class = [Class::Demand, Class::Prefetch][which % 2];
        let _answer = self.core.ask(entry, class, take);
        self.waiting.push(Waiting {
            entry,
            take,
            _answer,
        });
    }

    fn forget(&mut self, which: usize) {
        if let Some(Waiting { entry, take, .. }) = take(&mut self.waiting, which)
            && take
        {
            self.core.abandon(entry);
        }
    }

    /// Returns whether there was something to do.
    fn pick(&mut self, dir: usize, grows: bool) -> bool {
        let now = self.now;
        let Some(start) = self.core.pick(dir, Room { now, ..room() }) else {
            return false;
        };
        match start {
            Start::Grow(bytes) => {
                let full = io::Error::from(io::ErrorKind::StorageFull);
                self.core
                    .grown(dir, grows.then_some(bytes).ok_or(full), now);
            }
            Start::Write { parts, .. } => self.flights.push(Flight::Write(dir, parts)),
            Start::Fetch(group) => group.into_iter().for_each(|one| self.fetch(one)),
            Start::Read(part) => self.flights.push(Flight::Read(part)),
            Start::Copy { read, len, lent } => {
                let copy = self.pool.lease(len);
                self.core.copied(read, copy, lent);
            }
        }
        true
    }

    fn fetch(&mut self, one: Fetch) {
        if one.blocks.is_empty() {
            return self.core.end_read(one.read, Ok(self.pool.lease(0)));
        }
        let buffer = self.pool.lease(one.len);
        let mut rest = buffer.into_pieces(padded(one.len)).remove(0);
        let mut parts = Vec::new();
        for block in one.blocks {
            let behind = rest.split_off(padded(block.len));
            parts.push(ReadPart {
                read: one.read,
                entry: one.entry,
                block,
                piece: Some(std::mem::replace(&mut rest, behind)),
                again: false,
            });
        }
        drop(rest);
        self.core.ready(parts);
    }

    fn land(&mut self, flight: Flight, errno: Option<i32>) {
        let error = errno.map(|errno| Arc::new(io::Error::from_raw_os_error(errno)));
        let now = self.now;
        match (flight, error) {
            (Flight::Write(_, parts), None) => {
                parts.into_iter().for_each(|part| self.core.written(part));
            }
            (Flight::Write(dir, parts), Some(error)) => {
                for part in parts {
                    self.note(errno, part.block.extent);
                    self.core.not_written(dir, part, &error, now);
                }
            }
            (Flight::Read(mut part), None) => {
                let piece = part.piece.take().expect("it was leased");
                self.core.was_read(part, piece);
            }
            (Flight::Read(part), Some(error)) => {
                if errno != Some(ENOSPC) {
                    self.note(errno, part.block.extent);
                    self.core.read_failed(part, &error);
                } else {
                    self.core.not_read(part, Error::Withdrawn);
                }
            }
        }
    }

    fn note(&mut self, errno: Option<i32>, extent: Extent) {
        if errno == Some(EIO) {
            self.bad.insert(extent);
        }
    }

    /// Lets a read find wrong bytes.
    fn damage(&mut self, which: usize) {
        let read = |flight: &Flight| matches!(flight, Flight::Read(_));
        let at = self.flights.iter().position(read);
        let flight = at.and_then(|at| take(&mut self.flights, at));
        match flight {
            Some(Flight::Read(part)) if which.is_multiple_of(2) => {
                self.bad.insert(part.block.extent);
                self.core.damaged(part);
            }
            other => self.flights.extend(other),
        }
    }

    /// Lets all end well that can.
    fn end(mut self) {
        self.parked.clear();
        self.waiting.clear();
        let all: Vec<u64> = self.core.entries.keys().copied().collect();
        all.into_iter().for_each(|id| self.core.abandon(id));
        loop {
            let picked = (0..usize::from(DISKS))
                .filter(|dir| self.pick(*dir, true))
                .count();
            let flight = self.flights.pop();
            if picked == 0 && flight.is_none() {
                break;
            }
            flight
                .into_iter()
                .for_each(|flight| self.land(flight, None));
        }
        std::mem::take(&mut self.core.after).run();
        let stats = self.core.stats();
        assert_eq!(
            (stats.used_bytes, stats.queued_bytes, stats.kept_bytes),
            (0, 0, 0)
        );
        assert_eq!(
            (stats.parked, stats.queued_items, self.core.stale),
            (0, 0, 0)
        );
        assert!(self.core.entries.is_empty() && self.core.reads.is_empty());
        for disk in &self.core.disks {
            let space = &disk.space;
            assert_eq!(space.free_bytes() + space.bad_bytes(), space.bytes());
        }
        let bad_bytes: u64 = self.bad.iter().map(|extent| extent.bytes).sum();
        assert_eq!(stats.bad_bytes, bad_bytes, "only what is bad is out of use");
        assert_eq!(self.pool.usage().leased_bytes, 0);
    }
}

fn take<T>(all: &mut Vec<T>, which: usize) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(which % all.len()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_byte_of_the_quota_the_disks_or_the_memory_is_lost(
        steps in prop::collection::vec(step(), 1..150)
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        world.end();
    }
}
