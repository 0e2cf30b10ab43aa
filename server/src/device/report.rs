//! How a device is doing, as statistics and `forebay devices` tell it.

use forebay_proto::inference::ForebayDeviceStatistics;

/// What libtorch, the driver and the pool of slabs tell about a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// "cpu", "simulated", or libtorch's name with an index, as "cuda:0".
    pub name: String,
    /// What the driver calls it; empty where it does not tell.
    pub model: String,
    /// The driver's version.
    pub driver: Option<String>,
    /// Percent of the driver's last sampling period in which a kernel ran.
    pub utilization_percent: Option<u32>,
    /// Memory of the device.
    pub memory_total_bytes: u64,
    /// What all processes take of it.
    pub memory_used_bytes: u64,
    /// Page-locked slabs that are held.
    pub pinned_bytes: u64,
    /// Page-locked slabs that were ever allocated.
    pub pinned_allocations: u64,
}

impl From<Report> for ForebayDeviceStatistics {
    fn from(report: Report) -> Self {
        Self {
            name: report.name,
            model: report.model,
            utilization_percent: report.utilization_percent,
            memory_total_bytes: report.memory_total_bytes,
            memory_used_bytes: report.memory_used_bytes,
            pinned_bytes: report.pinned_bytes,
            pinned_allocations: report.pinned_allocations,
        }
    }
}
