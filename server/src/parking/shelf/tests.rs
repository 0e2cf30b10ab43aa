use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::atomic::Ordering,
};

use bytes::Bytes;
use forebay_proto::{DataType, Shape};
use forebay_spill::Config;
use tempfile::TempDir;

use super::*;
use crate::{admission::Permit, memory::Pool};

const LEN: u64 = 128 << 10;

struct Rig {
    shelf: Arc<Shelf>,
    budget: Budget,
    signal: Arc<Signal>,
    now: Instant,
    folder: TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut config = Config::new([folder.path().into()]);
        (config.segment_bytes, config.capacity_bytes) = (2 << 20, 2 << 20);
        (config.min_free_bytes, config.allow_tmpfs) = (0, true);
        config.write_queue_bytes = 2 * LEN;
        let limits = Limits::new(64 << 10, config.bounds());
        let store = Store::open(config, Pool::new(1 << 20)).unwrap();
        let budget = Budget::new("host", 1 << 20);
        let signal = Arc::<Signal>::default();
        let shelf = Shelf::new(store, budget.clone(), limits, Arc::clone(&signal));
        Self {
            shelf: Arc::new(shelf),
            budget,
            signal,
            now: Instant::now(),
            folder,
        }
    }

    /// Puts one large output and one small one, `age` ago.
    fn put(&self, byte: u8, age: Duration) -> Claim {
        let large = tensor(byte, LEN, self.budget.charge(LEN));
        let small = tensor(byte, 8, self.budget.charge(8));
        self.shelf.put(vec![large, small], self.now - age).unwrap()
    }

    /// Parks what is ripe, and waits until it is written. Returns the bytes.
    async fn park(&self) -> u64 {
        let mut bytes = 0;
        while let Some(leaving) = self.shelf.park(self.now, Duration::ZERO).unwrap() {
            leaving.written.await.unwrap();
            bytes += leaving.bytes;
        }
        bytes
    }

    /// Changes a bit of what is full of `byte` on disk.
    fn damage(&self, byte: u8) {
        let of_store = |path: &PathBuf| {
            let file = fs::read_link(path);
            file.is_ok_and(|file| file.starts_with(self.folder.path()))
        };
        let open = fs::read_dir("/proc/self/fd").unwrap();
        // Its files have no names, but this process has them open.
        let path = open.map(|one| one.unwrap().path()).find(of_store).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let content = fs::read(&path).unwrap();
        let is_full = |block: &[u8]| block.iter().all(|one| *one == byte);
        let place = content.chunks(4096).position(is_full).unwrap() as u64 * 4096;
        file.write_all_at(&[byte ^ 1], place).unwrap();
        file.sync_all().unwrap();
    }

    fn parked_bytes(&self) -> u64 {
        let slots = self.shelf.lock();
        slots.away.values().map(Stowed::parked_bytes).sum()
    }
}

fn tensor(byte: u8, len: u64, held: Permit) -> Tensor {
    let data = Bytes::from(vec![byte; usize::try_from(len).unwrap()]);
    let shape = Shape::new(vec![i64::try_from(len).unwrap()]).unwrap();
    let data = HostData::Wire(data).into_bytes(held);
    Tensor::new("y", DataType::Uint8, shape, data).unwrap()
}

fn assert_are(outputs: &[Tensor], byte: u8) {
    let lens: Vec<usize> = outputs.iter().map(|one| one.data().len()).collect();
    assert_eq!(lens, [128 << 10, 8]);
    assert!(
        outputs
            .iter()
            .all(|one| one.data().iter().all(|b| *b == byte))
    );
}

#[tokio::test]
async fn outputs_that_wait_leave_memory_and_come_back_as_they_were() {
    let rig = Rig::new();
    let claim = rig.put(7, PATIENCE);
    assert_eq!(rig.park().await, LEN);
    assert_eq!(rig.budget.used(), 8, "only the small one is in memory");
    let outputs = claim.redeem().await.unwrap();
    assert_are(&outputs, 7);
    assert_eq!(rig.budget.used(), LEN + 8);
    drop(outputs);
    assert_eq!(rig.budget.used(), 0);
}

#[tokio::test]
async fn young_outputs_stay_and_tell_when_they_ripen() {
    let rig = Rig::new();
    let claim = rig.put(7, Duration::ZERO);
    assert_eq!(rig.park().await, 0);
    assert_eq!(rig.shelf.ripens(), Some(rig.now + PATIENCE));
    assert_are(&claim.redeem().await.unwrap(), 7);
    assert_eq!(rig.shelf.ripens(), None);
}

#[tokio::test]
async fn the_newest_of_the_ripe_goes_first() {
    let rig = Rig::new();
    let claims = [2, 1, 0].map(|times| rig.put(times, PATIENCE * u32::from(times)));
    let leaving = rig.shelf.park(rig.now, Duration::ZERO).unwrap().unwrap();
    leaving.written.await.unwrap();
    let away: Vec<Slot> = rig.shelf.lock().away.keys().copied().collect();
    assert_eq!(away, [claims[1].slot]);
}

#[tokio::test]
async fn outputs_that_are_still_being_written_come_back() {
    let rig = Rig::new();
    let claim = rig.put(7, PATIENCE);
    let leaving = rig.shelf.park(rig.now, Duration::ZERO).unwrap().unwrap();
    assert_are(&claim.redeem().await.unwrap(), 7);
    // Written or withdrawn, the bytes are not held twice.
    let _either = leaving.written.await;
    assert_eq!(rig.budget.used(), 0);
}

#[tokio::test]
async fn a_claim_that_is_dropped_frees_memory_and_disk() {
    let rig = Rig::new();
    let (here, away) = (rig.put(1, Duration::ZERO), rig.put(2, PATIENCE));
    assert_eq!(rig.park().await, LEN);
    assert_eq!(rig.parked_bytes(), LEN);
    drop(away);
    assert_eq!(rig.parked_bytes(), 0);
    assert_eq!(rig.budget.used(), LEN + 8);
    drop(here);
    assert_eq!(rig.budget.used(), 0);
    // The store has room for as much as ever.
    for _ in 0..32 {
        let claim = rig.put(3, PATIENCE);
        assert_eq!(rig.park().await, LEN);
        drop(claim);
    }
}

#[tokio::test]
async fn dropped_while_it_is_written_it_leaves_nothing() {
    let rig = Rig::new();
    let claim = rig.put(7, PATIENCE);
    let leaving = rig.shelf.park(rig.now, Duration::ZERO).unwrap().unwrap();
    drop(claim);
    let _either = leaving.written.await;
    assert_eq!((rig.budget.used(), rig.parked_bytes()), (0, 0));
}

#[tokio::test]
async fn a_full_store_leaves_outputs_where_they_are() {
    let rig = Rig::new();
    let claims: Vec<Claim> = (0..24).map(|byte| rig.put(byte, PATIENCE)).collect();
    let refused = loop {
        match rig.shelf.park(rig.now, Duration::ZERO) {
            Ok(Some(leaving)) => leaving.written.await.unwrap(),
            Ok(None) => panic!("it holds no more than 16"),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Full { .. }), "{refused}");
    for (byte, claim) in (0..).zip(claims) {
        assert_are(&claim.redeem().await.unwrap(), byte);
    }
}

#[tokio::test]
async fn those_that_waited_for_less_than_asked_for_stay() {
    let rig = Rig::new();
    let claim = rig.put(7, PATIENCE * 3);
    let park = |patience| rig.shelf.park(rig.now, patience).unwrap();
    assert!(park(PATIENCE * 4).is_none());
    assert!(park(Duration::MAX).is_none());
    let leaving = park(PATIENCE * 3).unwrap();
    leaving.written.await.unwrap();
    assert_are(&claim.redeem().await.unwrap(), 7);
}

#[tokio::test]
async fn they_come_back_also_where_the_budget_is_full() {
    let rig = Rig::new();
    let claim = rig.put(7, PATIENCE);
    assert_eq!(rig.park().await, LEN);
    let rest = rig.budget.capacity() - rig.budget.used();
    let _others = rig.budget.try_reserve(rest).unwrap();
    let outputs = claim.redeem().await.unwrap();
    assert_are(&outputs, 7);
    assert_eq!(rig.budget.used(), rig.budget.capacity() + LEN);
}

#[tokio::test]
async fn damaged_ones_are_an_error_and_others_come_back() {
    let rig = Rig::new();
    let claims = [1, 2, 3].map(|byte| rig.put(byte, PATIENCE));
    assert_eq!(rig.park().await, 3 * LEN);
    rig.damage(2);
    let [first, second, third] = claims;
    assert_are(&first.redeem().await.unwrap(), 1);
    let error = second.redeem().await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_are(&third.redeem().await.unwrap(), 3);
    assert_eq!(rig.budget.used(), 0);
}

#[tokio::test]
async fn who_looked_in_vain_is_told_of_new_ones() {
    let rig = Rig::new();
    rig.signal.is_short.store(true, Ordering::Relaxed);
    let _claim = rig.put(7, Duration::ZERO);
    tokio::time::timeout(Duration::ZERO, rig.signal.moved.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_the_store_would_never_take_stays_out() {
    let rig = Rig::new();
    let small = vec![tensor(1, 8, rig.budget.charge(8))];
    let large = (0..3).map(|byte| tensor(byte, LEN, rig.budget.charge(LEN)));
    let longer_than_the_store = vec![tensor(1, 3 << 20, rig.budget.charge(3 << 20))];
    for outputs in [small, large.collect(), longer_than_the_store] {
        let lens = |outputs: &[Tensor]| outputs.iter().map(|one| one.data().len()).sum::<usize>();
        let before = lens(&outputs);
        let outputs = rig.shelf.put(outputs, rig.now).unwrap_err();
        assert_eq!(lens(&outputs), before);
    }
}

#[tokio::test]
async fn one_that_is_longer_than_several_may_be_leaves_alone() {
    let rig = Rig::new();
    let len = 3 * LEN;
    let outputs = vec![
        tensor(7, len, rig.budget.charge(len)),
        tensor(7, 8, rig.budget.charge(8)),
    ];
    let claim = rig.shelf.put(outputs, rig.now - PATIENCE).unwrap();
    assert_eq!(rig.park().await, len);
    let outputs = claim.redeem().await.unwrap();
    assert!(outputs[0].data().iter().all(|byte| *byte == 7));
}
