//! What NVIDIA's management library tells about a GPU. It comes with the driver; where it is not
//! there, nothing is told.

use std::{ffi::OsStr, fmt};

use nvml_wrapper::Nvml;

use super::ffi;

/// NVML, loaded.
pub(super) struct Management(Nvml);

/// What NVML tells about one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) model: Option<String>,
    pub(super) utilization_percent: Option<u32>,
    pub(super) driver: Option<String>,
}

impl Management {
    /// Loads NVML, by the name that drivers install it under.
    pub(super) fn load() -> Option<Self> {
        let mut builder = Nvml::builder();
        builder.lib_path(OsStr::new("libnvidia-ml.so.1"));
        builder.init().ok().map(Self)
    }

    /// Asks about libtorch's device `index`, which NVML may count differently: it is found by its
    /// address on the bus.
    pub(super) fn facts(&self, index: u32) -> Facts {
        let device = ffi::bus_id(index).and_then(|id| self.0.device_by_pci_bus_id(id).ok());
        let Some(device) = device else {
            return Facts::default();
        };
        Facts {
            model: device.name().ok(),
            utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
            driver: self.0.sys_driver_version().ok(),
        }
    }
}

impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Management").finish_non_exhaustive()
    }
}
