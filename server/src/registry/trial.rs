//! Tries a model where it is to run, before its instances are made.

use std::sync::{Arc, Mutex, PoisonError};

use super::place;
use crate::{
    device::{self, AnyDevice, Device, Work},
    model::{self, Instance, Model, Tried},
    tensor::{HostData, HostTensor},
};

/// Has the model make sure that it answers on each accelerator among `places` as on the host.
pub(super) fn settle(model: &dyn Model, places: &[AnyDevice]) {
    let on_host = model.host_inputs();
    for place in place::distinct(places) {
        if let AnyDevice::Accelerator(device) = place {
            let mut run = |instance, inputs| told(run_once(&*device, instance, inputs, &on_host));
            model.settle(device.location(), &mut run);
        }
    }
}

fn told(outcome: Result<Vec<HostTensor>, device::Error>) -> Tried {
    match outcome {
        Ok(outputs) => Tried::Answered(outputs),
        Err(device::Error::Model(
            error @ (model::Error::Forward(_) | model::Error::Output { .. }),
        )) => Tried::Failed(error.to_string()),
        Err(_) => Tried::Unknown,
    }
}

/// Runs a pass on a stream of its own. When this returns, the device is done with `instance`.
fn run_once<D: Device>(
    device: &D,
    instance: Box<dyn Instance>,
    inputs: Vec<Option<HostTensor>>,
    on_host: &[bool],
) -> Result<Vec<HostTensor>, device::Error> {
    let stream = device.open_stream("trial")?;
    let inputs = inputs.into_iter().map(|input| {
        let tensor = input?;
        // From where the device copies: of other memory it would not by itself.
        let mut slab = device.pool().lease(tensor.data.as_ref().len());
        slab.copy_from_slice(tensor.data.as_ref());
        let data = HostData::Slab(slab);
        Some(HostTensor { data, ..tensor })
    });
    let inputs = inputs.collect();
    let instance = Arc::new(Mutex::new(instance));
    let its = Arc::clone(&instance);
    let work: Work = Box::new(move |inputs| {
        let mut instance = its.lock().unwrap_or_else(PoisonError::into_inner);
        instance.forward(inputs)
    });
    let outputs = device
        .upload(&stream, inputs, on_host)
        .and_then(|inputs| device.launch(&stream, inputs, work))
        .and_then(|outputs| device.download(&stream, outputs));
    // Also where that failed: what was enqueued may read the weights yet.
    let over = device.record(&stream);
    if let Err(error) = over.and_then(|event| device.synchronize(&event)) {
        // Nobody knows whether it still does.
        std::mem::forget(instance);
        return Err(error);
    }
    drop(instance);
    device.finish(outputs?)
}
