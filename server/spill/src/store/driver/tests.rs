//! A thread's steps one by one, over an engine that moves nothing and writes down what it is told.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;

use super::*;
use crate::{
    config::{Checksum, Config},
    engine::Alarm,
    seal::Sealer,
    store::{
        Answer, Class, Data,
        core::{Core, Disk},
    },
};

type Log = Arc<Mutex<Vec<&'static str>>>;

#[derive(Debug)]
struct Told {
    log: Log,
    depth: usize,
    pushed: Vec<Op>,
}

impl Engine for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn register(&mut self, _: &mut [Piece]) -> bool {
        false
    }

    fn add_file(&mut self, _: Arc<File>) -> io::Result<FileId> {
        Ok(FileId(0))
    }

    fn push(&mut self, op: Op) {
        self.log.lock().unwrap().push("push");
        self.pushed.push(op);
    }

    fn submit(&mut self) {
        self.log.lock().unwrap().push("submit");
    }

    fn wait(&mut self, _: Option<Duration>, done: &mut Vec<Done>) {
        let all = self.pushed.drain(..);
        done.extend(all.map(|op| Done {
            result: Ok(op.memory.len()),
            op,
        }));
    }

    fn alarm(&self) -> Alarm {
        Alarm::new(|| ())
    }
}

struct Made {
    log: Log,
    free_bytes: Arc<AtomicU64>,
}

impl Files for Made {
    fn create(&mut self, _: u64) -> io::Result<Arc<File>> {
        self.log.lock().unwrap().push("create");
        tempfile::tempfile().map(Arc::new)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free_bytes.load(Ordering::Relaxed))
    }
}

struct Rig {
    driver: Driver,
    log: Log,
    /// What the file system has left.
    free_bytes: Arc<AtomicU64>,
}

impl Rig {
    fn new(depth: usize) -> Self {
        let config = Config {
            segment_bytes: 4 << 20,
            capacity_bytes: 64 << 20,
            checksum: Checksum::Off,
            ..Config::default()
        };
        let sealer = Sealer::new(config.checksum, config.encrypt).unwrap();
        let disk = Disk::new(0, Path::new("/spill").into(), "told");
        let core = Core::new(config, vec![disk], sealer.in_place());
        let shared = Shared::new(core, Pool::new(0), sealer, Vec::new());
        let log = Log::default();
        let engine = Told {
            log: Arc::clone(&log),
            depth,
            pushed: Vec::new(),
        };
        let free_bytes = Arc::new(AtomicU64::new(u64::MAX));
        let files = Box::new(Made {
            log: Arc::clone(&log),
            free_bytes: Arc::clone(&free_bytes),
        });
        let driver = Driver::new((0, Arc::new(shared)), Box::new(engine), files, 0);
        Self {
            driver,
            log,
            free_bytes,
        }
    }

    fn admit(&self, len: usize) -> u64 {
        let (data, now) = (Data::from(vec![0; len]), Instant::now());
        let admitted = self.driver.shared.with(|core| core.admit(data, None, now));
        admitted.unwrap()
    }

    /// Puts tensors on the disk.
    fn parked(&mut self, count: usize, len: usize) -> Vec<u64> {
        let ids = (0..count).map(|_| self.admit(len)).collect();
        self.driver.start_some();
        while !self.driver.flights.is_empty() {
            self.bring_back();
            self.driver.start_some();
        }
        self.log.lock().unwrap().clear();
        ids
    }

    fn ask(&self, id: u64) -> oneshot::Receiver<Answer> {
        let ask = |core: &mut Core| core.ask(id, Class::Demand, true);
        self.driver.shared.with(ask)
    }

    fn start_one(&mut self) {
        let start = self.driver.pick().expect("there is something to start");
        self.driver.start(start);
    }

    /// Ends what is at the engine.
    fn bring_back(&mut self) {
        let mut done = Vec::new();
        self.driver.engine.wait(None, &mut done);
        done.into_iter().for_each(|done| self.driver.complete(done));
    }

    fn log(&self) -> Vec<&'static str> {
        self.log.lock().unwrap().clone()
    }
}

#[test]
fn the_disk_is_at_work_while_a_tensor_is_copied() {
    let mut rig = Rig::new(4);
    let ids = rig.parked(1, 300_000);
    let _read = rig.ask(ids[0]);
    rig.start_one();
    let mut copy = rig.ask(rig.admit(300_000));
    rig.start_one();
    assert!(copy.try_recv().is_ok());
    assert_eq!(rig.log(), ["push", "submit"]);
}

#[test]
fn the_disk_is_at_work_while_a_segment_is_made() {
    let mut rig = Rig::new(4);
    let ids = rig.parked(1, 300_000);
    let _read = rig.ask(ids[0]);
    rig.start_one();
    rig.admit(4 << 20);
    rig.start_one();
    assert_eq!(rig.log(), ["push", "submit", "create"]);
}

#[test]
fn what_has_arrived_waits_for_some_copies_only() {
    let mut rig = Rig::new(4);
    let ids = rig.parked(1, 300_000);
    let mut read = rig.ask(ids[0]);
    rig.driver.start_some();
    rig.bring_back();
    let mut copies = [(); 8].map(|()| rig.ask(rig.admit(1 << 20)));
    rig.driver.start_some();
    let made = copies.iter_mut().filter_map(|copy| copy.try_recv().ok());
    assert_eq!(made.count(), 2);
    rig.driver.take_in();
    assert!(read.try_recv().is_ok());
}

#[test]
fn copies_without_end_leave_the_disk_its_turn() {
    let mut rig = Rig::new(4);
    let ids = rig.parked(1, 300_000);
    let mut copies = [(); 5].map(|()| rig.ask(rig.admit(1 << 20)));
    let _read = rig.ask(ids[0]);
    let mut made = Vec::new();
    for _turn in 0..3 {
        rig.driver.start_some();
        let copied = copies.iter_mut().filter_map(|copy| copy.try_recv().ok());
        made.push(copied.count());
        let reads = |flight: &Flight| matches!(flight.cargo, Cargo::Read(_));
        assert!(
            rig.driver.flights.values().any(reads),
            "it waits for copies"
        );
    }
    assert_eq!(made, [2, 2, 1]);
    assert!(rig.driver.may_copy());
}

#[test]
fn a_segment_is_as_large_as_the_file_system_can_spare() {
    const MIB: u64 = 1 << 20;
    let mut rig = Rig::new(1);
    rig.driver.min_free_bytes = 100 * MIB;
    for (free, asked, made) in [
        (2000 * MIB, 1024 * MIB, Some(1024 * MIB)),
        (400 * MIB + 5, 1024 * MIB, Some(300 * MIB)),
        (164 * MIB, 1024 * MIB, Some(64 * MIB)),
        (164 * MIB - 1, 1024 * MIB, None),
        (104 * MIB, 4 * MIB, Some(4 * MIB)),
        (104 * MIB - 1, 4 * MIB, None),
        (0, 4 * MIB, None),
    ] {
        rig.free_bytes.store(free, Ordering::Relaxed);
        let grown = rig.driver.grow(asked);
        match (grown, made) {
            (Ok(bytes), Some(made)) => assert_eq!(bytes, made, "{free}"),
            (Err(error), None) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
            (grown, _) => panic!("{free}: {grown:?}"),
        }
    }
}

#[test]
fn what_starts_waits_for_some_of_what_has_arrived_only() {
    let mut rig = Rig::new(8);
    let ids = rig.parked(8, 1 << 20);
    let mut reads: Vec<_> = ids.into_iter().map(|id| rig.ask(id)).collect();
    rig.driver.start_some();
    rig.bring_back();
    rig.driver.take_in();
    let looked_at = reads.iter_mut().filter_map(|read| read.try_recv().ok());
    assert_eq!(looked_at.count(), 2);
}

#[test]
fn reads_share_although_what_has_arrived_holds_the_buffers() {
    let mut rig = Rig::new(1);
    let ids = rig.parked(8, 200 << 10);
    let _reads: Vec<_> = ids.into_iter().map(|id| rig.ask(id)).collect();
    rig.driver.start_some();
    rig.bring_back();
    rig.driver.start_some();
    let stats = rig.driver.shared.with(|core| core.stats());
    assert_eq!(stats.merged_reads, 8);
}
