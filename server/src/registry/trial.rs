//! Tries a model where it is to run, before its instances are made.

use std::sync::{Arc, Mutex, PoisonError};

use super::place;
use crate::{
    device::{self, AnyDevice, Device, Work},
    model::{self, Answers, Instance, Model, TrialError},
    tensor::{HostData, HostTensor},
};

/// Of each form: libtorch makes a graph for an accelerator anew when it has seen two passes.
const PASSES: usize = 3;

/// Has the model make sure that it answers on each accelerator among `places` as it does unchanged.
pub(super) fn settle(model: &dyn Model, places: &[AnyDevice]) {
    let on_host = model.host_inputs();
    let places = place::distinct(places);
    let lowered = |place: &AnyDevice| {
        let AnyDevice::Accelerator(device) = place else {
            return false;
        };
        let mut run = |instance, inputs: &[Option<HostTensor>]| {
            let outcome = run(&**device, instance, inputs, &on_host);
            outcome.map_err(told)
        };
        let lowered = model.settle(device.location(), &mut run);
        device.reclaim();
        lowered
    };
    // What one takes, the others have: until all have tried the same.
    while places.iter().any(lowered) && places.len() > 1 {}
}

fn told(error: device::Error) -> TrialError {
    match error {
        device::Error::Model(error @ (model::Error::Forward(_) | model::Error::Output { .. })) => {
            TrialError::Model(error.to_string())
        }
        other => TrialError::Other(other.to_string()),
    }
}

/// Runs passes on a stream of their own. When this returns, the device is done with `instance`.
fn run<D: Device>(
    device: &D,
    instance: Box<dyn Instance>,
    inputs: &[Option<HostTensor>],
    on_host: &[bool],
) -> Result<Vec<Answers>, device::Error> {
    let stream = device.open_stream("trial")?;
    let instance = Arc::new(Mutex::new(instance));
    let mut passes = Vec::with_capacity(PASSES);
    for _ in 0..PASSES {
        let inputs = inputs.iter().map(|input| {
            let tensor = input.as_ref()?;
            // From where the device copies: of other memory it would not by itself.
            let mut slab = device.pool().lease(tensor.data.as_ref().len());
            slab.copy_from_slice(tensor.data.as_ref());
            Some(HostTensor {
                datatype: tensor.datatype,
                shape: tensor.shape.clone(),
                data: HostData::Slab(slab),
            })
        });
        let its = Arc::clone(&instance);
        let work: Work = Box::new(move |inputs| {
            let mut instance = its.lock().unwrap_or_else(PoisonError::into_inner);
            instance.forward(inputs)
        });
        let outputs = device
            .upload(&stream, inputs.collect(), on_host)
            .and_then(|inputs| device.launch(&stream, inputs, work))
            .and_then(|outputs| device.download(&stream, outputs));
        // Also where that failed: what was enqueued may read the weights yet.
        let over = device.record(&stream);
        if let Err(error) = over.and_then(|event| device.synchronize(&event)) {
            // Nobody knows whether it still does.
            std::mem::forget(instance);
            return Err(error);
        }
        passes.push(device.finish(outputs?)?);
    }
    Ok(passes)
}
