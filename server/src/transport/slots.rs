//! How many connections there are, in all and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for connections. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    max: usize,
    max_per_ip: usize,
    taken: Arc<Mutex<Taken>>,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    ip: IpAddr,
    taken: Arc<Mutex<Taken>>,
}

/// Which bound a connection would have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("transport.max_connections is reached")]
    Total,
    #[error("transport.max_connections_per_ip is reached")]
    PerIp,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

impl Slots {
    pub(super) fn new(max: usize, max_per_ip: usize) -> Self {
        let taken = Arc::default();
        Self {
            max,
            max_per_ip,
            taken,
        }
    }

    /// Takes a place for a connection from `ip`.
    pub(super) fn take(&self, ip: IpAddr) -> Result<Slot, Full> {
        // The same host may come by either family of a dual-stack socket.
        let ip = ip.to_canonical();
        let mut taken = lock(&self.taken);
        if taken.total >= self.max {
            return Err(Full::Total);
        }
        let from_ip = taken.by_ip.get(&ip).copied().unwrap_or(0);
        if from_ip >= self.max_per_ip {
            return Err(Full::PerIp);
        }
        taken.by_ip.insert(ip, from_ip + 1);
        taken.total += 1;
        let taken = Arc::clone(&self.taken);
        Ok(Slot { ip, taken })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.total -= 1;
        if let Some(from_ip) = taken.by_ip.get_mut(&self.ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                taken.by_ip.remove(&self.ip);
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_dropped_slots_are_free_again() {
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let slots = Slots::new(3, 2);
        let first = slots.take(ip(1)).unwrap();
        let _second = slots.take(ip(1)).unwrap();
        assert_eq!(slots.take(ip(1)).unwrap_err(), Full::PerIp);
        let _third = slots.take(ip(2)).unwrap();
        assert_eq!(slots.take(ip(3)).unwrap_err(), Full::Total);
        drop(first);
        let _fourth = slots.take(ip(1)).unwrap();
    }

    #[test]
    fn addresses_without_connections_take_no_memory() {
        let slots = Slots::new(10, 10);
        drop(slots.take(IpAddr::from([127, 0, 0, 1])).unwrap());
        assert!(lock(&slots.taken).by_ip.is_empty());
    }
}
