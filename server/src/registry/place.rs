//! Which device each instance of a model runs on: `instance_group`, with the meaning it has in Triton.

use crate::{
    device::{AnyDevice, Devices},
    repository::{InstanceGroup, InstanceKind},
};

/// A model asks for a device that is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none at all.
    #[error(
        "instance_group: KIND_GPU asks for a GPU, and there is none: {reason}; mend that, or write kind: KIND_CPU or KIND_AUTO"
    )]
    NoGpu {
        /// Why not.
        reason: String,
    },
    /// It would stay on the GPUs that it was saved on.
    #[error(
        "instance_group: KIND_MODEL leaves a model on the GPUs that it was saved on, which Forebay does not; write kind: KIND_GPU or KIND_CPU"
    )]
    WhereItWasSaved,
    /// There are others.
    #[error(
        "instance_group: gpus: GPU {gpu} is not there; this server has {count}, numbered from 0"
    )]
    MissingGpu {
        /// The GPU asked for.
        gpu: u32,
        /// How many there are.
        count: usize,
    },
}

/// Returns the device of each instance.
///
/// # Errors
/// A group asks for a GPU that is not there.
pub fn places(devices: &Devices, groups: &[InstanceGroup]) -> Result<Vec<AnyDevice>, Error> {
    let mut places = Vec::new();
    for group in groups {
        match group.kind {
            InstanceKind::Gpu => places.extend(on_gpus(devices, group)?),
            InstanceKind::Auto => match on_gpus(devices, group) {
                Ok(gpus) => places.extend(gpus),
                Err(_) => places.extend(on_host(devices, group)),
            },
            InstanceKind::Model if !devices.accelerators().is_empty() => {
                return Err(Error::WhereItWasSaved);
            }
            InstanceKind::Cpu | InstanceKind::Model => places.extend(on_host(devices, group)),
        }
    }
    Ok(places)
}

/// Returns each device of `places` once, in order.
pub(super) fn distinct(places: &[AnyDevice]) -> Vec<AnyDevice> {
    let mut distinct: Vec<AnyDevice> = Vec::new();
    for place in places {
        if distinct.iter().all(|known| known.name() != place.name()) {
            distinct.push(place.clone());
        }
    }
    distinct
}

fn on_host<'a>(
    devices: &'a Devices,
    group: &InstanceGroup,
) -> impl Iterator<Item = AnyDevice> + 'a {
    std::iter::repeat_n(devices.host().clone(), group.count)
}

/// On each GPU that the group lists, or on all, as many as it counts.
fn on_gpus(devices: &Devices, group: &InstanceGroup) -> Result<Vec<AnyDevice>, Error> {
    let accelerators = devices.accelerators();
    let count = accelerators.len();
    if count == 0 {
        let reason = devices.missing().unwrap_or_default().to_owned();
        return Err(Error::NoGpu { reason });
    }
    let listed = group.gpus.iter().map(|&gpu| {
        let index = usize::try_from(gpu).unwrap_or(usize::MAX);
        let device = accelerators.get(index);
        device.ok_or(Error::MissingGpu { gpu, count })
    });
    let used: Vec<_> = match group.gpus.is_empty() {
        true => accelerators.iter().collect(),
        false => listed.collect::<Result<_, _>>()?,
    };
    let copies = used.into_iter().flat_map(|device| {
        let place = AnyDevice::Accelerator(device.clone());
        std::iter::repeat_n(place, group.count)
    });
    Ok(copies.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{device, memory::Pool};

    fn group(kind: InstanceKind, count: usize) -> InstanceGroup {
        InstanceGroup {
            kind,
            count,
            gpus: Vec::new(),
        }
    }

    fn without_gpu() -> Devices {
        let config = device::Config {
            kind: device::Kind::Auto,
            library: "libno_such_accelerator.so".to_owned(),
            ..device::Config::default()
        };
        Devices::open(&config, Pool::new(0)).unwrap()
    }

    #[test]
    fn without_a_gpu_every_kind_but_gpu_runs_on_the_cpu() {
        use InstanceKind::{Auto, Cpu, Model};
        let groups = [group(Auto, 1), group(Cpu, 2), group(Model, 3)];
        let places = places(&without_gpu(), &groups).unwrap();
        assert_eq!(places.len(), 6);
        assert!(places.iter().all(|place| place.name() == "cpu"));
        assert_eq!(distinct(&places).len(), 1);
    }

    #[test]
    fn without_a_gpu_the_kind_gpu_is_refused_with_the_reason_and_the_mend() {
        let error = places(&without_gpu(), &[group(InstanceKind::Gpu, 1)]).unwrap_err();
        let text = error.to_string();
        for part in ["libno_such_accelerator.so", "LD_LIBRARY_PATH", "KIND_AUTO"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
