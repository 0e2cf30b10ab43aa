//! Copies, streams, events and page-locked memory.

use std::time::{Duration, Instant};

use forebay_proto::DataType;
use forebay_server::{
    device::{Device, Work},
    tensor::HostData,
};

use super::rig::{
    FAST, SLOW, assert_nothing_is_held, byte, device, echo, tensor, through, with_pinned,
};

/// How long the slow device waits before a copy.
const PAUSE: Duration = Duration::from_millis(200);

#[test]
fn bytes_of_every_datatype_and_shape_come_back() {
    let device = device(FAST);
    for datatype in DataType::ALL {
        for dims in [&[3i64, 5][..], &[0, 7], &[], &[1000]] {
            let elements: i64 = dims.iter().product();
            let length = usize::try_from(elements).unwrap() * datatype.size().unwrap_or(4);
            let bytes: Vec<u8> = match datatype {
                DataType::Bytes => vec![0; length],
                DataType::Bool => (0..length).map(|at| u8::from(at % 3 == 0)).collect(),
                _ => (0..length)
                    .map(|at| u8::try_from(at % 251).unwrap())
                    .collect(),
            };
            let input = tensor(&device, datatype, dims, &bytes);
            let outputs = through(&device, vec![Some(input)], &[], echo());
            assert_eq!(outputs.len(), 1);
            assert_eq!(outputs[0].datatype, datatype);
            assert_eq!(outputs[0].shape.dims(), dims);
            assert_eq!(outputs[0].data.as_ref(), bytes, "{datatype} {dims:?}");
            let HostData::Slab(slab) = &outputs[0].data else {
                panic!("outputs land in slabs")
            };
            assert!(slab.is_pinned());
        }
    }
    assert_nothing_is_held(&device);
}

#[test]
fn inputs_that_are_read_on_the_host_stay_there_and_in_their_place() {
    let device = device(FAST);
    let one = |value| Some(tensor(&device, DataType::Uint8, &[1], &[value]));
    let inputs = vec![one(1), None, one(2), one(3)];
    let work = Box::new(|inputs: Vec<Option<forebay_server::tensor::Placed>>| {
        use forebay_server::tensor::Placed::{Device, Host};
        let places: Vec<_> = inputs
            .iter()
            .map(|input| match input {
                None => "none",
                Some(Host(_)) => "host",
                Some(Device(_)) => "device",
            })
            .collect();
        assert_eq!(places, ["device", "none", "host", "device"]);
        Ok(inputs.into_iter().flatten().collect())
    });
    let outputs = through(&device, inputs, &[false, false, true], work);
    let bytes: Vec<_> = outputs
        .iter()
        .map(|output| output.data.as_ref()[0])
        .collect();
    assert_eq!(bytes, [1, 2, 3]);
    drop(outputs);
    assert_nothing_is_held(&device);
}

#[test]
fn events_order_streams_and_a_missing_wait_reads_what_is_not_there_yet() {
    let device = device(SLOW);
    // The second input is there after two pauses. It alone is copied back, after one.
    let two = || vec![byte(&device, 1).remove(0), byte(&device, 2).remove(0)];
    let second =
        || -> Work { Box::new(|inputs| Ok(inputs.into_iter().flatten().skip(1).collect())) };
    let outputs = through(&device, two(), &[], second());
    assert_eq!(outputs[0].data.as_ref(), [2; 4]);

    let [h2d, compute, d2h] =
        ["h2d", "compute", "d2h"].map(|name| device.open_stream(name).unwrap());
    let inputs = device.upload(&h2d, two(), &[]).unwrap();
    let inputs = device.launch(&compute, inputs, second()).unwrap();
    let output = device.download(&d2h, inputs).unwrap();
    let done = device.record(&d2h).unwrap();
    device.synchronize(&done).unwrap();
    let outputs = device.finish(output).unwrap();
    assert_eq!(
        outputs[0].data.as_ref(),
        [0xDD; 4],
        "nothing ordered the streams"
    );
}

#[test]
fn events_tell_the_time_between_them() {
    let device = device(SLOW);
    let stream = device.open_stream("h2d").unwrap();
    let before = device.record(&stream).unwrap();
    let buffer = device.upload(&stream, byte(&device, 1), &[]).unwrap();
    let after = device.record(&stream).unwrap();
    assert_eq!(
        device.elapsed(&before, &after),
        Duration::ZERO,
        "not over yet"
    );
    device.synchronize(&after).unwrap();
    let took = device.elapsed(&before, &after);
    assert!(took >= PAUSE, "{took:?}");
    drop(buffer);
}

#[test]
fn a_buffer_that_is_dropped_early_keeps_its_host_memory_until_the_copy_is_done() {
    let device = device(SLOW);
    let stream = device.open_stream("h2d").unwrap();
    let began = Instant::now();
    drop(device.upload(&stream, byte(&device, 1), &[]).unwrap());
    assert!(
        began.elapsed() >= PAUSE,
        "the slab was free while it was read"
    );
    assert_nothing_is_held(&device);

    let placed = device.upload(&stream, byte(&device, 2), &[]).unwrap();
    let began = Instant::now();
    drop(device.download(&stream, placed).unwrap());
    assert!(
        began.elapsed() >= PAUSE,
        "the slab was free while it was written"
    );
    assert_nothing_is_held(&device);
}

#[test]
fn outputs_are_not_taken_before_they_are_there() {
    let device = device(SLOW);
    let stream = device.open_stream("one").unwrap();
    let placed = device.upload(&stream, byte(&device, 9), &[]).unwrap();
    let output = device.download(&stream, placed).unwrap();
    // Nobody synchronized: to finish waits by itself.
    assert_eq!(device.finish(output).unwrap()[0].data.as_ref(), [9; 4]);
    let placed = device.upload(&stream, byte(&device, 9), &[]).unwrap();
    assert!(device.finish(placed).is_err(), "it was not downloaded");
}

#[test]
fn locked_memory_stays_within_its_budget_and_goes_with_its_device() {
    let device = with_pinned(SLOW, 16 << 10);
    let first = device.pool().lease(8 << 10);
    let second = device.pool().lease(8 << 10);
    let beyond = device.pool().lease(8 << 10);
    assert!(first.is_pinned() && second.is_pinned() && !beyond.is_pinned());
    assert_eq!(device.memory().unwrap().pinned, 16 << 10);
    drop((first, second, beyond));
    // Without room to lock more, copies work all the same.
    let held = [device.pool().lease(16 << 10)];
    let outputs = through(&device, byte(&device, 5), &[], echo());
    assert_eq!(outputs[0].data.as_ref(), [5; 4]);
    drop((outputs, held));
    let other = self::device(FAST);
    drop(device);
    assert_eq!(other.memory().unwrap().pinned, 0);
}

#[test]
fn a_steady_path_allocates_and_locks_nothing() {
    let device = device(FAST);
    let sizes = [1usize, 5000, 70_000, 300, 70_001];
    let run = |size: usize| {
        let bytes = vec![u8::try_from(size % 200).unwrap(); size];
        let dims = [i64::try_from(size).unwrap()];
        let input = tensor(&device, DataType::Uint8, &dims, &bytes);
        let outputs = through(&device, vec![Some(input)], &[], echo());
        assert_eq!(outputs[0].data.as_ref(), bytes);
    };
    sizes.into_iter().for_each(run);
    let warm = device.pool().usage();
    assert!(warm.pinned > 0);
    for round in 0..40 {
        run(sizes[round % sizes.len()]);
    }
    let after = device.pool().usage();
    assert_eq!((after.fresh, after.pinned), (warm.fresh, warm.pinned));
    assert_nothing_is_held(&device);
}
