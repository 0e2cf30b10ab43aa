//! A device of the fake accelerator, and tensors for it.

use std::sync::Arc;

use forebay_proto::{DataType, Shape};
use forebay_server::{
    device::{Accelerator, Device, Work},
    tensor::{HostData, HostTensor, Placed},
};

/// The library that brings the fake accelerator.
pub(crate) const LIBRARY: &str = env!("FOREBAY_FAKE_ACCELERATOR");

/// Runs at once, and insists on page-locked memory.
pub(crate) const FAST: usize = 0;
/// Waits for 200 ms before each copy.
pub(crate) const SLOW: usize = 1;
/// Fails each copy, for good.
pub(crate) const BROKEN: usize = 2;
/// Breaks at the first copy to the host, and then throws from destructors.
pub(crate) const BREAKS: usize = 3;

pub(crate) fn device(index: usize) -> Arc<Accelerator> {
    with_pinned(index, 64 << 20)
}

pub(crate) fn with_pinned(index: usize, bytes: usize) -> Arc<Accelerator> {
    let devices = Accelerator::find(LIBRARY, bytes).unwrap();
    assert_eq!(devices.len(), 4);
    Arc::clone(&devices[index])
}

/// A tensor in a slab of the device's pool.
pub(crate) fn tensor(
    device: &Accelerator,
    datatype: DataType,
    dims: &[i64],
    bytes: &[u8],
) -> HostTensor {
    let mut slab = device.pool().lease(bytes.len());
    slab.copy_from_slice(bytes);
    HostTensor {
        datatype,
        shape: Shape::new(dims.to_vec()).unwrap(),
        data: HostData::Slab(slab),
    }
}

pub(crate) fn byte(device: &Accelerator, byte: u8) -> Vec<Option<HostTensor>> {
    vec![Some(tensor(device, DataType::Uint8, &[4], &[byte; 4]))]
}

/// Gives its inputs back.
pub(crate) fn echo() -> Work {
    Box::new(|inputs| Ok(inputs.into_iter().flatten().collect::<Vec<Placed>>()))
}

/// Sends tensors through the three streams of a pipeline, ordered as the executor does it.
pub(crate) fn through(
    device: &Accelerator,
    tensors: Vec<Option<HostTensor>>,
    on_host: &[bool],
    work: Work,
) -> Vec<HostTensor> {
    let [h2d, compute, d2h] =
        ["h2d", "compute", "d2h"].map(|name| device.open_stream(name).unwrap());
    let input = device.upload(&h2d, tensors, on_host).unwrap();
    let uploaded = device.record(&h2d).unwrap();
    device.wait(&compute, &uploaded).unwrap();
    let output = device.launch(&compute, input, work).unwrap();
    let computed = device.record(&compute).unwrap();
    device.wait(&d2h, &computed).unwrap();
    let output = device.download(&d2h, output).unwrap();
    let done = device.record(&d2h).unwrap();
    device.synchronize(&done).unwrap();
    device.finish(output).unwrap()
}

/// What everything leaves behind: no memory of the device, and page-locked memory that is idle.
pub(crate) fn assert_nothing_is_held(device: &Arc<Accelerator>) {
    let usage = device.pool().usage();
    assert_eq!(usage.leased_bytes, 0);
    let memory = device.memory().unwrap();
    assert_eq!(memory.allocated, 0);
    assert_eq!(memory.pinned, usage.pinned_bytes as u64);
}
