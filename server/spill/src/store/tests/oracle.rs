//! The store against a map in memory, by chance.

use std::{
    collections::HashMap,
    pin::pin,
    task::{Context, Waker},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    engine::fault::plan::Mix,
    error::Error,
    store::{Class, Data, Parked},
};

on_each_engine!(
    ten_thousand_operations_lose_no_byte,
    nor_do_two_thousand_with_faults_on_three_disks,
    nor_do_a_hundred_when_encrypted,
);

fn ten_thousand_operations_lose_no_byte(choice: Choice) {
    let rig = Rig::with(choice, 1, usize::MAX, |config| {
        config.write_queue_bytes = 8 << 20
    });
    run(rig, 1, 10_000);
}

fn nor_do_a_hundred_when_encrypted(choice: Choice) {
    let rig = Rig::with(choice, 1, usize::MAX, |config| config.encrypt = true);
    run(rig, 3, 100);
}

fn nor_do_two_thousand_with_faults_on_three_disks(choice: Choice) {
    let rig = Rig::with(choice, 3, usize::MAX, |config| {
        config.segment_bytes = 1 << 20
    });
    for (seed, control) in (0..).zip(&rig.controls) {
        let (again, out_of_memory) = (11, 12);
        let mix = Mix {
            errors: 30,
            shorts: 30,
            held: 100,
            flips: 0,
            errnos: vec![4, again, out_of_memory],
            round: 1,
        };
        control.set(plan::seeded(seed, mix));
    }
    run(rig, 2, 2000);
}

struct Oracle {
    rig: Rig,
    rng: StdRng,
    held: HashMap<u64, (Parked, Vec<u8>)>,
    next: u64,
}

fn run(rig: Rig, seed: u64, operations: usize) {
    let mut oracle = Oracle {
        rig,
        rng: StdRng::seed_from_u64(seed),
        held: HashMap::new(),
        next: 0,
    };
    for _ in 0..operations {
        oracle.step();
    }
    while let Some((parked, data)) = oracle.take() {
        oracle.onboard(parked, &data);
    }
    oracle.rig.finish();
}

impl Oracle {
    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            _ if self.held.len() > 60 => drop(self.take()),
            0..40 => {
                let data = self.data();
                let tensor = self.tensor(&data);
                self.offload(vec![(tensor, data)]);
            }
            40..45 => {
                let count = self.rng.random_range(1..10);
                let all = (0..count).map(|_| self.data());
                let all: Vec<_> = all.collect();
                let all = all.into_iter().map(|data| (self.tensor(&data), data));
                let all = all.collect();
                self.offload(all);
            }
            45..70 => {
                if let Some((parked, data)) = self.take() {
                    self.onboard(parked, &data);
                }
            }
            70..80 => self.read(),
            80..87 => drop(self.take()),
            87..95 => self.cancel(),
            95..99 => self.onboard_some(),
            _ => self.rig.store.blocking().synchronize(),
        }
    }

    /// Small ones mostly.
    fn data(&mut self) -> Vec<u8> {
        let len = match self.rng.random_range(0..100) {
            0..60 => self.rng.random_range(0..20_000),
            60..96 => self.rng.random_range(0..100_000),
            96..99 => self.rng.random_range(0..600_000),
            _ => self.rng.random_range(0..3 << 20),
        };
        random(self.rng.random(), len)
    }

    fn tensor(&mut self, data: &[u8]) -> Data {
        match self.rng.random() {
            true => self.rig.buffer(data).into(),
            false => data.to_vec().into(),
        }
    }

    fn offload(&mut self, all: Vec<(Data, Vec<u8>)>) {
        let (tensors, copies): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let parked = self.rig.store.offload_all(tensors);
        for (parked, copy) in parked.into_iter().zip(copies) {
            match parked {
                Ok(parked) => {
                    self.held.insert(self.next, (parked, copy));
                    self.next += 1;
                }
                Err(refused) => {
                    let error = refused.error;
                    assert!(
                        matches!(error, Error::QueueFull { .. } | Error::TooLarge { .. }),
                        "{error}"
                    );
                    assert!(refused.data.as_ref() == copy);
                    self.rig.store.blocking().synchronize();
                }
            }
        }
    }

    fn pick(&mut self) -> Option<u64> {
        let mut keys: Vec<u64> = self.held.keys().copied().collect();
        keys.sort_unstable();
        let at = self.rng.random_range(0..keys.len().max(1));
        keys.get(at).copied()
    }

    fn take(&mut self) -> Option<(Parked, Vec<u8>)> {
        let key = self.pick()?;
        self.held.remove(&key)
    }

    fn onboard(&self, parked: Parked, data: &[u8]) {
        let back = self.rig.store.blocking().onboard(parked).unwrap();
        assert!(back[..] == *data);
    }

    fn read(&mut self) {
        if let Some(key) = self.pick() {
            let (parked, data) = &self.held[&key];
            assert!(self.rig.store.blocking().read(parked).unwrap()[..] == data[..]);
        }
    }

    /// Drops a future in mid-flight, polled or not.
    fn cancel(&mut self) {
        let (take, poll) = (self.rng.random::<bool>(), self.rng.random::<bool>());
        let mut context = Context::from_waker(Waker::noop());
        let Some(key) = self.pick() else {
            return;
        };
        if take && let Some((parked, _)) = self.held.remove(&key) {
            let future = pin!(self.rig.store.onboard(parked, Class::Demand));
            let _ = poll.then(|| future.poll(&mut context));
        } else {
            let future = pin!(self.rig.store.read(&self.held[&key].0, Class::Prefetch));
            let _ = poll.then(|| future.poll(&mut context));
        }
    }

    fn onboard_some(&mut self) {
        let some: Vec<_> = (0..8).map_while(|_| self.take()).collect();
        let (parked, copies): (Vec<_>, Vec<_>) = some.into_iter().unzip();
        let back = self.rig.store.onboard_all(parked, Class::Prefetch);
        for (back, copy) in back.into_iter().zip(copies) {
            assert!(block_on(back).unwrap()[..] == copy[..]);
        }
    }
}
