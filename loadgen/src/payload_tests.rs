use super::*;

fn input(name: &str, datatype: DataType, shape: &[i64]) -> TensorMetadata {
    TensorMetadata {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
    }
}

fn model(inputs: Vec<TensorMetadata>) -> ModelMetadata {
    ModelMetadata {
        name: "model".to_owned(),
        versions: vec![],
        platform: String::new(),
        inputs,
        outputs: vec![],
    }
}

#[test]
fn every_datatype_makes_a_tensor_of_the_right_size() {
    let inputs = DataType::ALL
        .iter()
        .map(|datatype| input(datatype.name(), *datatype, &[-1, 3]))
        .collect();
    let options = Options {
        variants: 2,
        batch: Some(4),
        ..Options::default()
    };
    let pool = Pool::build(&model(inputs), &options).unwrap();
    // Tensor::new has checked each size; the sum shows that none is missing.
    let numbers: usize = DataType::ALL
        .iter()
        .filter_map(|datatype| datatype.size())
        .sum();
    assert_eq!(pool.bytes(), 12 * numbers + 12 * (4 + TEXT));
    assert!(pool.inputs().iter().all(|(_, _, shape)| *shape == [4, 3]));
}

#[test]
fn numbers_are_between_zero_and_one_or_small() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut values = |datatype| {
        let tensor = random("x", datatype, &[500], &mut rng).unwrap();
        tensor.data().to_vec()
    };
    let floats = values(DataType::Fp32);
    let floats = floats
        .chunks(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    assert!(floats.clone().all(|value| (0.0..1.0).contains(&value)));
    assert!(floats.clone().any(|value| value > 0.5) && floats.clone().any(|value| value < 0.5));
    // The upper half of an FP32 is a BF16.
    let brains = values(DataType::Bf16);
    let mut brains = brains
        .chunks(2)
        .map(|bytes| f32::from_le_bytes([0, 0, bytes[0], bytes[1]]));
    assert!(brains.all(|value| (0.5..1.0).contains(&value)));
    let halves = values(DataType::Fp16);
    let mut halves = halves.chunks(2).map(|bytes| bytes[1]);
    assert!(halves.all(|high| (0x38..0x3c).contains(&high)));
    let integers = values(DataType::Int64);
    let mut integers = integers
        .chunks(8)
        .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()));
    assert!(integers.all(|value| (0..100).contains(&value)));
    assert!(values(DataType::Bool).iter().all(|value| *value <= 1));
}

#[test]
fn variants_differ_and_the_seed_decides_them() {
    let model = model(vec![input("x", DataType::Fp32, &[8])]);
    let options = Options {
        variants: 3,
        seed: 5,
        ..Options::default()
    };
    let build = |options: &Options| Pool::build(&model, options).unwrap().requests;
    let (first, again) = (build(&options), build(&options));
    let other = build(&Options { seed: 6, ..options });
    let text = |requests: &[Request], at: usize| format!("{:?}", requests[at]);
    assert_ne!(text(&first, 0), text(&first, 1));
    assert_eq!(text(&first, 2), text(&again, 2));
    assert_ne!(text(&first, 2), text(&other, 2));
}

#[test]
fn shapes_fill_open_dimensions_with_or_without_the_batch() {
    let image = input("x", DataType::Fp32, &[-1, 3, -1, -1]);
    assert_eq!(shape(&image, Some(&[3, 8, 9]), None).unwrap(), [1, 3, 8, 9]);
    assert_eq!(
        shape(&image, Some(&[3, 8, 9]), Some(5)).unwrap(),
        [5, 3, 8, 9]
    );
    assert_eq!(
        shape(&image, Some(&[2, 3, 8, 9]), None).unwrap(),
        [2, 3, 8, 9]
    );
    assert!(matches!(
        shape(&image, None, Some(2)),
        Err(Error::Unknown { .. })
    ));
    assert!(matches!(
        shape(&image, Some(&[4, 8, 9]), None),
        Err(Error::Unfit { .. })
    ));
    assert!(matches!(
        shape(&image, Some(&[8]), None),
        Err(Error::Unfit { .. })
    ));
    let fixed = input("x", DataType::Fp32, &[2, 3]);
    assert_eq!(shape(&fixed, None, Some(1)).unwrap(), [2, 3]);
    assert!(matches!(
        shape(&fixed, None, Some(2)),
        Err(Error::NoBatch { .. })
    ));
}

#[test]
fn refuses_a_shape_for_an_input_that_the_model_lacks() {
    let model = model(vec![input("x", DataType::Fp32, &[8])]);
    let shapes = BTreeMap::from([("y".to_owned(), vec![8])]);
    let options = Options {
        variants: 1,
        shapes,
        ..Options::default()
    };
    assert_eq!(
        Pool::build(&model, &options).map(|_| ()),
        Err(Error::UnknownInput {
            input: "y".to_owned(),
            known: "x".to_owned()
        })
    );
}
