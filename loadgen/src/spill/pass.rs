//! One way of many tensors, and what it took.

use std::time::Duration;

use crate::{host::CpuTime, stats::Latencies};

/// Tensors below this are offloaded in groups, as the store then writes them together.
const SMALL_BYTES: usize = 256 << 10;
/// Bytes of such a group.
const GROUP_BYTES: usize = 8 << 20;
/// Bytes of such tensors in all: they take long.
const SMALL_TOTAL_BYTES: usize = 64 << 20;
/// Bytes on their way at once at most.
const IN_FLIGHT_BYTES: usize = 128 << 20;

/// Tensors of one size that go to a store and come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Bytes of each.
    pub tensor_bytes: usize,
    /// How many there are.
    pub count: usize,
    /// How many are on their way at once.
    pub in_flight: usize,
    /// How many go in one call.
    pub together: usize,
}

impl Load {
    /// Makes a load of about `total_bytes`, with `in_flight` tensors on their way at once where memory
    /// and groups allow it; one means each alone, also of small ones.
    pub fn new(tensor_bytes: usize, total_bytes: usize, in_flight: usize) -> Self {
        let tensor_bytes = tensor_bytes.max(1);
        let small = tensor_bytes < SMALL_BYTES;
        let together = match small && in_flight > 1 {
            true => GROUP_BYTES / tensor_bytes.max(4096),
            false => 1,
        };
        let total_bytes = match small {
            true => total_bytes.min(SMALL_TOTAL_BYTES),
            false => total_bytes,
        };
        let fit = (IN_FLIGHT_BYTES / tensor_bytes).max(2);
        let two_groups = if together > 1 { 2 * together } else { 1 };
        Self {
            tensor_bytes,
            count: (total_bytes / tensor_bytes)
                .clamp(1, 1 << 20)
                .next_multiple_of(together),
            in_flight: in_flight.clamp(1, fit).max(two_groups),
            together,
        }
    }

    /// Returns the bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensor_bytes as u64 * self.count as u64
    }

    /// Returns the bytes that they take of a disk.
    pub(super) fn padded_bytes(&self) -> u64 {
        self.tensor_bytes.next_multiple_of(4096) as u64 * self.count as u64
    }

    /// Returns the bytes of memory for those on their way.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.tensor_bytes * self.in_flight
    }
}

/// What it took.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Bytes of all tensors.
    pub bytes: u64,
    /// From the first call until the last tensor was there.
    pub took: Duration,
    /// What all threads of the process ran meanwhile; `None` where the kernel does not tell.
    pub cpu: Option<Duration>,
    /// From the call until the tensor was there.
    pub latencies: Latencies,
}

impl Pass {
    pub(super) fn new(
        load: &Load,
        took: Duration,
        cpu: [Option<CpuTime>; 2],
        latencies: Latencies,
    ) -> Self {
        let [before, after] = cpu;
        let spent = before.zip(after);
        Self {
            bytes: load.bytes(),
            took,
            cpu: spent.map(|(before, after)| after.since(before).running),
            latencies,
        }
    }

    /// Returns its throughput in MiB/s.
    pub fn mib_per_s(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20) / self.took.as_secs_f64()
    }

    /// Returns what a GiB takes of a core, in seconds.
    pub fn cpu_s_per_gib(&self) -> Option<f64> {
        let gib = self.bytes as f64 / f64::from(1 << 30);
        Some(self.cpu?.as_secs_f64() / gib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tensors_go_in_groups_of_which_two_are_on_their_way() {
        let load = Load::new(4 << 10, 512 << 20, 32);
        assert_eq!(
            (load.together, load.in_flight, load.count),
            (2048, 4096, 16_384)
        );
        let odd = Load::new(1000, 1 << 20, 32);
        assert!(odd.count.is_multiple_of(odd.together), "{odd:?}");
    }

    #[test]
    fn large_tensors_on_their_way_are_bounded_in_bytes() {
        let load = Load::new(64 << 20, 512 << 20, 128);
        assert_eq!((load.together, load.in_flight, load.count), (1, 2, 8));
        let alone = Load::new(4 << 10, 1 << 20, 1);
        assert_eq!((alone.together, alone.in_flight), (1, 1));
        let huge = Load::new(1 << 30, 512 << 20, 128);
        assert_eq!((huge.in_flight, huge.count), (2, 1));
    }

    #[test]
    fn figures_are_of_all_bytes() {
        let pass = Pass {
            bytes: 1 << 29,
            took: Duration::from_millis(250),
            cpu: Some(Duration::from_millis(100)),
            latencies: Latencies::new(),
        };
        assert_eq!(pass.mib_per_s(), 2048.0);
        assert_eq!(pass.cpu_s_per_gib(), Some(0.2));
    }
}
