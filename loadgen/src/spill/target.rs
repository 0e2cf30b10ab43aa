//! A store that is measured.
//!
//! Invariant: what is timed allocates no memory that was not used before, and no file.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use forebay_spill::{
    Class, Config, Data, Parked, Store,
    memory::{HostBuf, Pool},
};
use futures_util::{Stream, StreamExt, stream::FuturesUnordered};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{Load, Pass};
use crate::{host::CpuTime, stats::Latencies};

/// A store that is measured, and the memory of the tensors.
#[derive(Debug)]
pub struct Target {
    store: Store,
    pool: Pool,
}

impl Target {
    /// Opens a store in `dir` that has room for each of `loads`, with what `change` makes of its
    /// defaults, and memory for the tensors on their way.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(dir: &Path, loads: &[Load], change: impl FnOnce(&mut Config)) -> Result<Self> {
        let bytes = loads
            .iter()
            .map(Load::padded_bytes)
            .max()
            .unwrap_or_default();
        let in_flight_bytes = loads
            .iter()
            .map(Load::in_flight_bytes)
            .max()
            .unwrap_or_default();
        let in_flight = loads
            .iter()
            .map(|load| load.in_flight)
            .max()
            .unwrap_or_default();
        let mut config = Config::new([dir.to_owned()]);
        config.capacity_bytes = bytes.max(4096);
        config.segment_bytes = config.capacity_bytes.min(1 << 30);
        // What is on its way fits, so that nothing is refused.
        config.write_queue_bytes = config.write_queue_bytes.max(in_flight_bytes as u64);
        config.write_queue_items = config.write_queue_items.max(in_flight);
        change(&mut config);
        // Sizes round up to powers of two in a pool.
        let pool = Pool::new(2 * loads.iter().map(Load::in_flight_bytes).sum::<usize>());
        for load in loads {
            warm_up(&pool, load);
        }
        let store = Store::open(config, pool.clone()).context("open the store")?;
        Ok(Self { store, pool })
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Offloads all tensors of `load`, then brings them back: what each way took.
    ///
    /// # Errors
    /// The disk fails.
    pub async fn round_trip(&self, load: &Load) -> Result<[Pass; 2]> {
        let (written, parked) = self.write(load).await?;
        Ok([written, self.read(load, parked).await?])
    }

    /// Offloads all tensors of `load`.
    ///
    /// # Errors
    /// The disk fails.
    pub async fn write(&self, load: &Load) -> Result<(Pass, Vec<Parked>)> {
        let mut waiting = FuturesUnordered::new();
        let mut parked = Vec::with_capacity(load.count);
        let mut latencies = Latencies::new();
        let (cpu, begin) = (CpuTime::now(), Instant::now());
        let mut sent = 0;
        while parked.len() < load.count {
            while sent < load.count && waiting.len() + load.together <= load.in_flight {
                let call = Instant::now();
                for one in self.offload(load)? {
                    waiting.push(settled(one, call));
                }
                sent += load.together;
            }
            let (one, took) = next(&mut waiting).await?;
            latencies.record(took);
            parked.push(one);
        }
        let pass = Pass::new(load, begin.elapsed(), [cpu, CpuTime::now()], latencies);
        Ok((pass, parked))
    }

    /// Brings all tensors of `load` back.
    ///
    /// # Errors
    /// The disk fails.
    pub async fn read(&self, load: &Load, parked: Vec<Parked>) -> Result<Pass> {
        let mut parked = parked.into_iter();
        let mut waiting = FuturesUnordered::new();
        let mut latencies = Latencies::new();
        let (cpu, begin) = (CpuTime::now(), Instant::now());
        loop {
            while waiting.len() + load.together <= load.in_flight && parked.len() > 0 {
                let call = Instant::now();
                let group: Vec<Parked> = parked.by_ref().take(load.together).collect();
                for arrival in self.store.onboard_all(group, Class::Demand) {
                    waiting.push(async move {
                        let buffer = arrival.await.context("onboard a tensor")?;
                        Ok((buffer, call.elapsed()))
                    });
                }
            }
            if waiting.is_empty() {
                break;
            }
            let (buffer, took): (HostBuf, Duration) = next(&mut waiting).await?;
            drop(buffer);
            latencies.record(took);
        }
        Ok(Pass::new(
            load,
            begin.elapsed(),
            [cpu, CpuTime::now()],
            latencies,
        ))
    }

    fn offload(&self, load: &Load) -> Result<Vec<Parked>> {
        let lease = || self.pool.lease(load.tensor_bytes);
        if load.together == 1 {
            let parked = self.store.offload(lease()).context("offload a tensor")?;
            return Ok(vec![parked]);
        }
        let group = (0..load.together).map(|_| Data::from(lease())).collect();
        let parked = self.store.offload_all(group).into_iter();
        parked.map(|one| one.context("offload a tensor")).collect()
    }
}

/// Fills memory for all tensors on their way, which then waits in the pool. The bytes are random: a
/// disk may be faster with others.
fn warm_up(pool: &Pool, load: &Load) {
    let mut random = SmallRng::seed_from_u64(load.tensor_bytes as u64);
    let mut leased: Vec<HostBuf> = (0..=load.in_flight)
        .map(|_| pool.lease(load.tensor_bytes))
        .collect();
    leased
        .iter_mut()
        .for_each(|buffer| random.fill_bytes(buffer));
}

async fn settled(parked: Parked, call: Instant) -> Result<(Parked, Duration)> {
    parked.settled().await.context("write a tensor")?;
    Ok((parked, call.elapsed()))
}

async fn next<T>(waiting: &mut (impl Stream<Item = Result<T>> + Unpin)) -> Result<T> {
    let next = waiting.next().await;
    next.context("a tensor is on its way while some are missing")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_tensors_go_and_come_back_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let loads = [Load::new(100, 1000, 4), Load::new(300 << 10, 4 << 20, 3)];
        let target = Target::open(dir.path(), &loads, |config| config.allow_tmpfs = true).unwrap();
        for load in &loads {
            let [written, read] = target.round_trip(load).await.unwrap();
            for pass in [written, read] {
                assert_eq!(pass.bytes, load.bytes());
                assert_eq!(pass.latencies.samples(), load.count as u64);
            }
        }
        let stats = target.store().stats();
        assert_eq!((stats.parked, stats.used_bytes), (0, 0));
    }
}
