use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Locks nothing; `skew` bytes off the alignment, at most `left` regions.
#[derive(Debug, Clone)]
struct Fake {
    skew: usize,
    left: Arc<AtomicUsize>,
    live: Arc<AtomicUsize>,
    trims: Arc<AtomicUsize>,
}

impl Fake {
    fn new(skew: usize, left: usize) -> Self {
        Self {
            skew,
            left: Arc::new(AtomicUsize::new(left)),
            live: Arc::default(),
            trims: Arc::default(),
        }
    }
}

#[derive(Debug)]
struct FakeRegion {
    memory: Vec<u8>,
    start: usize,
    size: usize,
    live: Arc<AtomicUsize>,
}

impl Region for FakeRegion {
    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.size]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.size]
    }
}

impl Drop for FakeRegion {
    fn drop(&mut self) {
        self.live.fetch_sub(self.size, Ordering::Relaxed);
    }
}

impl Pinner for Fake {
    fn pin(&self, size: usize) -> Option<Box<dyn Region>> {
        let take = |left: usize| left.checked_sub(1);
        let (order, skew) = (Ordering::Relaxed, self.skew);
        self.left.fetch_update(order, order, take).ok()?;
        self.live.fetch_add(size, order);
        let memory = vec![0; size + ALIGNMENT + skew];
        let start = memory.as_ptr().align_offset(ALIGNMENT) + skew;
        let live = Arc::clone(&self.live);
        Some(Box::new(FakeRegion {
            memory,
            start,
            size,
            live,
        }))
    }

    fn trim(&self) {
        self.trims.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn slabs_are_aligned_and_reused() {
    let pool = Pool::new(1 << 20);
    for len in [0, 1, 4096, 5000, 100_000] {
        let mut buf = pool.lease(len);
        assert_eq!(buf.len(), len);
        assert_eq!(buf.as_ptr().align_offset(ALIGNMENT), 0);
        buf.fill(1);
    }
    let fresh = pool.usage().fresh;
    drop(pool.lease(6000));
    let usage = pool.usage();
    assert_eq!((usage.fresh, usage.leased_bytes), (fresh, 0));
}

#[test]
fn idle_slabs_stay_within_the_bound() {
    let pool = Pool::new(10_000);
    let leases: Vec<_> = (0..4).map(|_| pool.lease(4096)).collect();
    assert_eq!(pool.usage().leased_bytes, 4 * 4096);
    drop(leases);
    assert_eq!(pool.usage().idle_bytes, 2 * 4096);
}

#[test]
fn a_slab_is_little_larger_than_what_it_is_for() {
    for len in (0..200_000).step_by(777).chain([1 << 20, (1 << 20) + 1]) {
        let class = class(len);
        assert!(class >= len && class.is_multiple_of(ALIGNMENT));
        assert!(
            class <= (len + len / 4).max(len + ALIGNMENT),
            "{len}: {class}"
        );
        assert_eq!(super::class(class), class);
    }
    assert_eq!(class((512 << 10) + 100), 640 << 10);
}

#[test]
fn idle_slabs_go_where_leased_ones_need_the_bytes() {
    let pool = Pool::within(1 << 20, 64 << 10);
    drop((pool.lease(32 << 10), pool.lease(16 << 10)));
    assert_eq!(pool.usage().idle_bytes, 48 << 10);
    let large = pool.lease(40 << 10);
    assert_eq!(pool.usage().idle_bytes, 16 << 10);
    let larger = pool.lease(64 << 10);
    assert_eq!(pool.usage().idle_bytes, 0);
    drop(larger);
    assert_eq!(
        pool.usage().idle_bytes,
        0,
        "with what is leased it is too much"
    );
    drop(large);
    assert_eq!(pool.usage().idle_bytes, 40 << 10);
}

#[test]
fn locked_slabs_are_aligned_also_where_the_allocator_does_not_align() {
    for (skew, asked) in [(0, 8192), (512, 8192 + ALIGNMENT)] {
        let fake = Fake::new(skew, 10);
        let pool = Pool::pinned(Box::new(fake.clone()), 1 << 20);
        let mut buf = pool.lease(5000);
        assert!(buf.is_pinned());
        assert_eq!(buf.as_ptr().align_offset(ALIGNMENT), 0);
        buf.fill(7);
        assert_eq!(fake.live.load(Ordering::Relaxed), asked);
        drop(buf);
        drop(pool);
        assert_eq!(fake.live.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn locking_stays_within_its_budget_and_idle_slabs_make_room() {
    let fake = Fake::new(0, 10);
    let pool = Pool::pinned(Box::new(fake.clone()), 16_384);
    let (small, other) = (pool.lease(4096), pool.lease(4096));
    assert!(!pool.lease(16_384).is_pinned(), "leased slabs must not go");
    assert_eq!(pool.usage().pinned_bytes, 8192);
    drop(small);
    drop(other);
    assert_eq!(fake.trims.load(Ordering::Relaxed), 0);
    let large = pool.lease(16_384);
    assert!(large.is_pinned());
    assert_eq!(fake.live.load(Ordering::Relaxed), 16_384);
    assert_eq!(fake.trims.load(Ordering::Relaxed), 1);
    let beyond = pool.lease(4096);
    assert!(!beyond.is_pinned());
    drop((beyond, large));
    let usage = pool.usage();
    assert_eq!((usage.idle_bytes, usage.pinned_bytes), (16_384, 16_384));
    assert_eq!((usage.leased_bytes, usage.pinned, usage.fresh), (0, 3, 5));
}

#[test]
fn what_locking_rounds_up_to_counts() {
    let fake = Fake::new(0, 10);
    let pool = Pool::pinned(Box::new(fake.clone()), 1 << 20);
    let buf = pool.lease((512 << 10) + 1);
    assert_eq!(
        (buf.is_pinned(), pool.usage().pinned_bytes),
        (true, 1 << 20)
    );
    assert_eq!(fake.live.load(Ordering::Relaxed), 1 << 20);
    let beyond = pool.lease(1);
    assert!(!beyond.is_pinned());
}

#[test]
fn memory_that_the_system_does_not_lock_is_lent_pageable() {
    let pool = Pool::pinned(Box::new(Fake::new(0, 0)), 1 << 20);
    let buf = pool.lease(100);
    assert_eq!((buf.len(), buf.is_pinned()), (100, false));
    drop(buf);
    let usage = pool.usage();
    assert_eq!((usage.pinned_bytes, usage.pinned), (0, 0));
    assert_eq!((usage.idle_bytes, usage.leased_bytes), (0, 0));
}
