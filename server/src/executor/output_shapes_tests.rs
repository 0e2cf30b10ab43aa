//! Which outputs pass, in which shapes, and what the log says of them.

use forebay_proto::DataType;

use super::*;
use crate::{telemetry::captured, tensor::HostData};

/// Name, dims, and the shape of a reshape.
type Output<'a> = (&'a str, &'a [i64], Option<&'a [i64]>);

fn signature(outputs: &[Output<'_>]) -> Signature {
    let spec = |&(name, dims, reshape): &(&str, &[i64], Option<&[i64]>)| TensorSpec {
        name: name.to_owned(),
        datatype: DataType::Uint8,
        dims: dims.to_vec(),
        reshape: reshape.map(<[i64]>::to_vec),
        optional: false,
    };
    Signature {
        inputs: vec![],
        outputs: outputs.iter().map(spec).collect(),
        max_batch_size: 8,
    }
}

fn record(signature: &Signature) -> OutputShapes {
    OutputShapes::new("m", 3, signature)
}

/// Settles outputs of the shapes `given`, and returns the shapes that clients see.
fn settle(
    record: &OutputShapes,
    signature: &Signature,
    given: &[&[i64]],
    rows: Option<usize>,
) -> Result<Vec<Vec<i64>>, String> {
    let output = |dims: &&[i64]| {
        let shape = Shape::new(dims.to_vec()).unwrap();
        let bytes = vec![0u8; usize::try_from(shape.elements()).unwrap()];
        HostTensor {
            datatype: DataType::Uint8,
            shape,
            data: HostData::Wire(bytes.into()),
        }
    };
    let mut outputs: Vec<_> = given.iter().map(output).collect();
    let settled = record.settle(&mut outputs, &signature.outputs, rows);
    settled.map_err(|error| error.to_string())?;
    let dims = outputs.iter().map(|output| output.shape.dims().to_vec());
    Ok(dims.collect())
}

#[test]
fn an_output_that_differs_from_its_dims_is_answered_as_it_is_and_logged_once() {
    let signature = signature(&[("a", &[4], None), ("b", &[2, -1], None)]);
    let record = record(&signature);
    let settle = |given: &[&[i64]]| {
        captured(|| {
            let seen = settle(&record, &signature, given, Some(2));
            assert_eq!(seen.unwrap(), given);
        })
    };
    assert_eq!(settle(&[&[2, 4], &[2, 2, 9]]), "");
    assert!(!record.differ());
    let told = settle(&[&[2, 5], &[2, 2, 9]]);
    assert_eq!(told.lines().count(), 1, "{told}");
    for part in [
        "WARN",
        "write dims that the model gives",
        "model=\"m\" version=3 output=\"a\" dims=[4] actual=[5]",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(record.differ());
    assert_eq!(settle(&[&[2, 7], &[2, 2, 1]]), "");
    let told = settle(&[&[2, 4], &[2, 3, 1]]);
    let expected = "output=\"b\" dims=[2, -1] actual=[3, 1]";
    assert!(told.contains(expected), "{told}");
    assert_eq!(settle(&[&[2, 4], &[2, 3, 1]]), "");
}

#[test]
fn an_output_with_more_or_fewer_dimensions_is_not_split_by_its_first() {
    let signature = signature(&[("boxes", &[-1, 4], None)]);
    let record = record(&signature);
    // Two boxes of the whole batch are no batch of two.
    let error = settle(&record, &signature, &[&[2, 4]], Some(2)).unwrap_err();
    assert!(
        error
            .ends_with("says [2, -1, 4], with as many dimensions; write dims that the model gives"),
        "{error}"
    );
    assert!(settle(&record, &signature, &[&[2, 4, 1]], None).is_ok());
}

#[test]
fn the_first_dimension_is_the_batch_or_the_output_is_refused() {
    let signature = signature(&[("a", &[4], None)]);
    let record = record(&signature);
    for (given, shown) in [(&[3, 4][..], "[3, 4]"), (&[4], "[4]"), (&[], "[]")] {
        let error = settle(&record, &signature, &[given], Some(2)).unwrap_err();
        assert_eq!(
            error,
            format!(
                "output 'a' of the model is of shape {shown}, but its configuration says [2, 4], \
                 with the batch first; write max_batch_size: 0 if the model has none"
            )
        );
        assert!(settle(&record, &signature, &[given], None).is_ok());
    }
}

#[test]
fn an_output_of_the_shape_that_its_reshape_says_gets_the_one_of_dims() {
    let signature = signature(&[("a", &[1], Some(&[])), ("b", &[2, -1], Some(&[1, 2, -1]))]);
    let record = record(&signature);
    for (batch, rows) in [(&[2][..], Some(2)), (&[], None)] {
        let of = |item: &[i64]| [batch, item].concat();
        let [a, b] = [of(&[]), of(&[1, 2, 9])];
        let seen = settle(&record, &signature, &[&a, &b], rows);
        assert_eq!(seen.unwrap(), [of(&[1]), of(&[2, 9])]);
    }
    assert!(!record.differ());
    let error = settle(&record, &signature, &[&[2], &[2, 2, 9]], Some(2)).unwrap_err();
    assert_eq!(
        error,
        "output 'b' of the model is of shape [2, 2, 9], but its configuration says [2, 1, 2, -1], \
         in its reshape; write there what the model gives"
    );
}
