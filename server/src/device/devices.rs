//! The devices of a server: the host's, and the accelerators where there are some.

use std::sync::Arc;

use super::{Accelerator, AnyDevice, Config, Cpu, Kind, Missing, Simulated};
use crate::memory::Pool;

/// What models may run on.
#[derive(Debug, Clone)]
pub struct Devices {
    host: AnyDevice,
    accelerators: Vec<Arc<Accelerator>>,
    /// Why there is no accelerator.
    missing: Option<Arc<str>>,
}

/// The server's device is not there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("device.kind: an accelerator is asked for, and there is none")]
pub struct Unavailable {
    /// Why not.
    #[from]
    pub reason: Missing,
}

impl Devices {
    /// Finds the devices that the configuration asks for; the host's gathers batches in slabs of
    /// `pool`. Call it before anything else asks libtorch for accelerators.
    ///
    /// # Errors
    /// An accelerator is asked for, and there is none.
    pub fn open(config: &Config, pool: Pool) -> Result<Self, Unavailable> {
        let cpu = |pool| AnyDevice::Cpu(Arc::new(Cpu::new(pool)));
        let without = |host, why: String| Self {
            host,
            accelerators: Vec::new(),
            missing: Some(why.into()),
        };
        let says = |kind: &str| format!("the configuration says device.kind = \"{kind}\"");
        match config.kind {
            Kind::Cpu => Ok(without(cpu(pool), says("cpu"))),
            Kind::Simulated => {
                let simulated = Simulated::with_faults(config.costs(), pool, config.faults());
                let host = AnyDevice::Simulated(Arc::new(simulated));
                Ok(without(host, says("simulated")))
            }
            Kind::Auto | Kind::Accelerator => {
                let pinned = usize::try_from(config.pinned_bytes.as_u64()).unwrap_or(usize::MAX);
                match Accelerator::find(&config.library, pinned) {
                    Ok(accelerators) => Ok(Self {
                        host: cpu(pool),
                        accelerators,
                        missing: None,
                    }),
                    Err(missing) if config.kind == Kind::Accelerator => Err(missing.into()),
                    Err(missing) => Ok(without(cpu(pool), missing.to_string())),
                }
            }
        }
    }

    /// Returns the device of the host: the CPU, or the simulated one in its place.
    pub fn host(&self) -> &AnyDevice {
        &self.host
    }

    /// Returns the accelerators, by index.
    pub fn accelerators(&self) -> &[Arc<Accelerator>] {
        &self.accelerators
    }

    /// Returns why there is no accelerator.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }
}
