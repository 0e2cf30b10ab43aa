//! Where the outputs of answered requests wait for their readers, in memory or on disk.
//!
//! Who answers puts them here and sends on a [`Claim`]; who reads redeems it. What waits for long
//! while memory is short goes to disk, the newest first, since a reader takes the oldest next. It comes
//! back at the cost of the budget even where that is full: nothing else would free those bytes.
//!
//! Invariant: a slot lives exactly as long as its claim, so there are no more slots than answers that
//! somebody waits for, and a claim that is dropped frees memory and disk.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forebay_proto::Tensor;
use forebay_spill::{Class, Error, Store};
use tokio::time::Instant;

use super::{
    Cargo, Limits, Signal, Stowed,
    cargo::{self, Accepted},
};
use crate::{admission::Budget, tensor::HostData};

/// How long outputs wait in memory at least: most readers are faster than that.
const PATIENCE: Duration = Duration::from_millis(50);

/// Outputs that wait for their readers.
#[derive(Debug)]
pub struct Shelf {
    store: Store,
    budget: Budget,
    limits: Limits,
    /// Told when there is something to park.
    signal: Arc<Signal>,
    slots: Mutex<Slots>,
}

/// The right to the outputs of one request.
#[derive(Debug)]
pub struct Claim {
    shelf: Arc<Shelf>,
    slot: Slot,
}

/// Outputs that the store took.
pub(crate) struct Leaving<F> {
    /// Bytes that leave memory.
    pub(crate) bytes: u64,
    /// Ends when they are written, or cannot be.
    pub(crate) written: F,
}

/// When outputs came, and a number that no others have.
type Slot = (Instant, u64);

#[derive(Debug, Default)]
struct Slots {
    next: u64,
    here: BTreeMap<Slot, Vec<Tensor>>,
    away: HashMap<Slot, Stowed>,
}

impl Shelf {
    /// Makes an empty shelf. What is within `limits` may go to `store`; `signal` is told when there is
    /// something that may.
    pub(crate) fn new(store: Store, budget: Budget, limits: Limits, signal: Arc<Signal>) -> Self {
        Self {
            store,
            budget,
            limits,
            signal,
            slots: Mutex::default(),
        }
    }

    /// Takes the outputs of a request that was answered at `now`.
    ///
    /// # Errors
    /// Gives them back where they cannot be parked.
    pub fn put(self: &Arc<Self>, outputs: Vec<Tensor>, now: Instant) -> Result<Claim, Vec<Tensor>> {
        if self.limits.parkable(outputs.iter()) == 0 {
            return Err(outputs);
        }
        let mut slots = self.lock();
        let slot = (now, slots.next);
        slots.next += 1;
        slots.here.insert(slot, outputs);
        drop(slots);
        self.signal.parkable();
        let shelf = Arc::clone(self);
        Ok(Claim { shelf, slot })
    }

    /// Hands the newest of the outputs that have waited for `patience` by `now` to the store, or `None`
    /// where there are none. Some patience it has always.
    ///
    /// # Errors
    /// The store takes no more; the outputs stay here.
    pub(crate) fn park(
        &self,
        now: Instant,
        patience: Duration,
    ) -> Result<Option<Leaving<impl Future<Output = Result<(), Error>> + Send + use<>>>, Error>
    {
        let Some(latest) = now.checked_sub(patience.max(PATIENCE)) else {
            return Ok(None);
        };
        let mut slots = self.lock();
        let ripe = slots.here.range(..=(latest, u64::MAX)).next_back();
        let ripe = ripe.map(|(slot, _)| *slot);
        let Some((slot, outputs)) = ripe.and_then(|slot| slots.here.remove_entry(&slot)) else {
            return Ok(None);
        };
        // Outputs hold their bytes of the budget themselves, until the store lets go of them.
        let cargo = Cargo {
            inputs: outputs.into_iter().map(Some).collect(),
            permit: None,
        };
        match cargo::park(&self.store, &self.limits, cargo) {
            Ok(Accepted {
                mut stowed,
                written,
                ..
            }) => {
                let bytes = stowed.parked_bytes();
                stowed.permit = Some(self.budget.charge(stowed.kept_bytes()));
                slots.away.insert(slot, stowed);
                Ok(Some(Leaving { bytes, written }))
            }
            Err((error, cargo)) => {
                let outputs = cargo.inputs.into_iter().flatten().collect();
                slots.here.insert(slot, outputs);
                Err(error)
            }
        }
    }

    /// Returns when the first of the outputs in memory will have waited long enough to be parked.
    pub(crate) fn ripens(&self) -> Option<Instant> {
        let slots = self.lock();
        let ((since, _), _) = slots.here.first_key_value()?;
        Some(*since + PATIENCE)
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Returns the outputs, which come back into memory where they are not there.
    ///
    /// # Errors
    /// The disk failed, or what is on it is damaged.
    ///
    /// # Cancel safety
    /// Dropping the future drops the outputs.
    pub async fn redeem(self) -> Result<Vec<Tensor>, Error> {
        let away = {
            let mut slots = self.shelf.lock();
            if let Some(outputs) = slots.here.remove(&self.slot) {
                return Ok(outputs);
            }
            slots.away.remove(&self.slot)
        };
        let stowed = away.expect("a slot is taken by its claim only");
        let Shelf { store, budget, .. } = &*self.shelf;
        let (cargo, _parking) = cargo::onboard(store, budget, Class::Demand, stowed).await?;
        let mut permit = cargo.permit;
        let charged = |tensor: Tensor| {
            let data = tensor.data().clone();
            let held = permit
                .as_mut()
                .map(|permit| permit.split(data.len() as u64));
            tensor.with_data(HostData::Wire(data).into_bytes(held))
        };
        Ok(cargo.inputs.into_iter().flatten().map(charged).collect())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut slots = self.shelf.lock();
        let unread = (slots.here.remove(&self.slot), slots.away.remove(&self.slot));
        // Outside the lock: what goes may wake others.
        drop(slots);
        drop(unread);
    }
}

#[cfg(test)]
mod tests;
