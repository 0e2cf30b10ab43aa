use forebay_proto::{DataType, Shape};

use super::*;
use crate::model;

fn device() -> Simulated {
    Simulated::new(Costs::default(), Pool::new(1 << 20))
}

fn tensor(byte: u8) -> Vec<Option<HostTensor>> {
    vec![Some(HostTensor {
        datatype: DataType::Uint8,
        shape: Shape::new(vec![1]).unwrap(),
        data: HostData::Wire(vec![byte].into()),
    })]
}

fn double() -> Work {
    Box::new(|inputs| {
        let inputs = inputs.into_iter().flatten().filter_map(Placed::into_host);
        let doubled = inputs.map(|input| HostTensor {
            datatype: input.datatype,
            shape: input.shape.clone(),
            data: HostData::Wire(vec![2 * input.data.as_ref()[0]].into()),
        });
        Ok(doubled.map(Placed::Host).collect())
    })
}

#[test]
fn ordered_streams_compute_and_report_nothing() {
    let device = device();
    let [h2d, compute, d2h] =
        ["h2d", "compute", "d2h"].map(|name| device.open_stream(name).unwrap());
    for byte in 0..50 {
        let input = device.upload(&h2d, tensor(byte), &[]).unwrap();
        let uploaded = device.record(&h2d).unwrap();
        device.wait(&compute, &uploaded).unwrap();
        let output = device.launch(&compute, input, double()).unwrap();
        let computed = device.record(&compute).unwrap();
        device.wait(&d2h, &computed).unwrap();
        let output = device.download(&d2h, output).unwrap();
        let done = device.record(&d2h).unwrap();
        device.synchronize(&done).unwrap();
        assert_eq!(device.finish(output).unwrap()[0].data.as_ref(), [2 * byte]);
    }
    assert_eq!(device.hazards(), []);
}

#[test]
fn a_read_before_the_writers_event_is_reported() {
    let device = device();
    let [h2d, compute] = ["h2d", "compute"].map(|name| device.open_stream(name).unwrap());
    let input = device.upload(&h2d, tensor(1), &[]).unwrap();
    let refused = device.launch(&compute, input, double()).unwrap_err();
    assert!(
        refused.to_string().contains("a forward pass on 'compute'"),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("upload 1 on 'h2d'"),
        "{refused}"
    );
    assert_eq!(device.hazards().len(), 1);
}

#[test]
fn an_event_recorded_too_early_does_not_help() {
    let device = device();
    let [h2d, compute] = ["h2d", "compute"].map(|name| device.open_stream(name).unwrap());
    let early = device.record(&h2d).unwrap();
    let input = device.upload(&h2d, tensor(1), &[]).unwrap();
    device.wait(&compute, &early).unwrap();
    assert!(matches!(
        device.launch(&compute, input, double()),
        Err(Error::Hazard(_))
    ));
}

#[test]
fn a_host_read_before_synchronizing_is_reported() {
    let device = device();
    let stream = device.open_stream("one").unwrap();
    let buffer = device.upload(&stream, tensor(1), &[]).unwrap();
    assert!(matches!(device.finish(buffer), Err(Error::Hazard(_))));
}

#[test]
fn freeing_what_is_still_written_is_reported() {
    let device = device();
    let stream = device.open_stream("one").unwrap();
    drop(device.upload(&stream, tensor(1), &[]).unwrap());
    assert!(
        device.hazards()[0]
            .to_string()
            .contains("a free by the host")
    );
    let kept = device.upload(&stream, tensor(1), &[]).unwrap();
    device
        .synchronize(&device.record(&stream).unwrap())
        .unwrap();
    drop(kept);
    assert_eq!(device.hazards().len(), 1);
}

#[test]
fn a_failed_pass_is_told_where_its_outputs_are_taken() {
    let device = device();
    let stream = device.open_stream("one").unwrap();
    let fails: [Work; 2] = [
        Box::new(|_| Err(model::Error::Forward("no".to_owned()))),
        Box::new(|_| panic!("planted")),
    ];
    for work in fails {
        let input = device.upload(&stream, tensor(1), &[]).unwrap();
        let output = device.launch(&stream, input, work).unwrap();
        device
            .synchronize(&device.record(&stream).unwrap())
            .unwrap();
        assert!(matches!(device.finish(output), Err(Error::Model(_))));
    }
}

#[test]
fn a_copy_takes_as_long_as_its_link() {
    let link = Link {
        latency: Duration::from_millis(2),
        bytes_per_second: Some(1_000_000),
    };
    assert_eq!(link.time(3000), Duration::from_millis(5));
    assert_eq!(Link::default().time(1 << 30), Duration::ZERO);
}
