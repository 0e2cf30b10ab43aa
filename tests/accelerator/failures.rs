//! What fails on the device, and what becomes of it.

use bytes::Bytes;
use forebay_proto::{DataType, Shape};
use forebay_server::{
    device::{Device, Work},
    model,
    tensor::{HostData, HostTensor},
};

use super::rig::{
    BREAKS, BROKEN, FAST, assert_nothing_is_held, byte, device, echo, tensor, through,
};

#[test]
fn out_of_memory_is_told_as_such_and_passes() {
    let device = device(FAST);
    let stream = device.open_stream("h2d").unwrap();
    let too_much = vec![0; 65 << 20];
    let dims = [i64::try_from(too_much.len()).unwrap()];
    let wire = HostTensor {
        datatype: DataType::Uint8,
        shape: Shape::new(dims.to_vec()).unwrap(),
        data: HostData::Wire(too_much.into()),
    };
    let error = device.upload(&stream, vec![Some(wire)], &[]).unwrap_err();
    assert!(error.is_out_of_memory() && !error.is_final(), "{error}");
    assert!(error.to_string().contains("fake:0"), "{error}");
    device.reclaim();
    let outputs = through(&device, byte(&device, 3), &[], echo());
    assert_eq!(outputs[0].data.as_ref(), [3; 4]);
    drop(outputs);
    assert_nothing_is_held(&device);
}

#[test]
fn an_error_that_stays_is_told_as_such() {
    let device = device(BROKEN);
    let stream = device.open_stream("h2d").unwrap();
    let error = device.upload(&stream, byte(&device, 1), &[]).unwrap_err();
    assert!(error.is_final() && !error.is_out_of_memory(), "{error}");
    assert!(
        error.to_string().contains("illegal memory access"),
        "{error}"
    );
    assert_nothing_is_held(&device);
}

#[test]
fn memory_of_a_device_that_breaks_on_the_way_does_not_end_the_process() {
    let device = device(BREAKS);
    let [h2d, compute, d2h] =
        ["h2d", "compute", "d2h"].map(|name| device.open_stream(name).unwrap());
    let launch = |work: Work| {
        let input = device.upload(&h2d, byte(&device, 1), &[]).unwrap();
        device.launch(&compute, input, work)
    };
    // One lets go of its input, one gives it back; a third one is under way when the device breaks.
    let dropped = launch(Box::new(|_| Ok(vec![]))).unwrap();
    let given = launch(echo()).unwrap();
    let under_way = launch(echo()).unwrap();
    let error = device.download(&d2h, given).unwrap_err();
    assert!(error.is_final(), "{error}");
    let idle = device.pool().lease(4);
    drop((dropped, under_way));
    let error = device.upload(&h2d, byte(&device, 1), &[]).unwrap_err();
    assert!(error.is_final(), "{error}");
    // With them goes page-locked memory, which cannot be freed any more either.
    drop((idle, h2d, compute, d2h, device));
}

#[test]
fn an_error_of_one_operation_is_neither() {
    // The fast device takes asynchronous copies from page-locked memory only.
    let device = device(FAST);
    let stream = device.open_stream("h2d").unwrap();
    let pageable = HostTensor {
        datatype: DataType::Uint8,
        shape: Shape::new(vec![4]).unwrap(),
        data: HostData::Wire(Bytes::from_static(&[1; 4])),
    };
    let good = tensor(&device, DataType::Uint8, &[4], &[2; 4]);
    let error = device
        .upload(&stream, vec![Some(good), Some(pageable)], &[])
        .unwrap_err();
    assert!(!error.is_final() && !error.is_out_of_memory(), "{error}");
    assert!(error.to_string().contains("not page-locked"), "{error}");
    assert_nothing_is_held(&device);
}

#[test]
fn a_pass_that_fails_or_panics_leaves_the_threads_stream_as_it_was() {
    let device = device(FAST);
    let stream = device.open_stream("compute").unwrap();
    let input = device.upload(&stream, byte(&device, 1), &[]).unwrap();
    let fails = Box::new(|_| Err(model::Error::Forward("planted".to_owned())));
    let error = device.launch(&stream, input, fails).unwrap_err();
    assert!(error.to_string().contains("planted"), "{error}");
    let input = device.upload(&stream, byte(&device, 1), &[]).unwrap();
    let panics = std::panic::AssertUnwindSafe(|| {
        drop(device.launch(&stream, input, Box::new(|_| panic!("planted"))));
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    let outputs = through(&device, byte(&device, 4), &[], echo());
    assert_eq!(outputs[0].data.as_ref(), [4; 4]);
    drop(outputs);
    assert_nothing_is_held(&device);
}
