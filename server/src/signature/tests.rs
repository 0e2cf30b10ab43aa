use forebay_proto::{DataType, Shape};

use super::*;

fn spec(name: &str, datatype: DataType, dims: &[i64]) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        datatype,
        dims: dims.into(),
        reshape: None,
        optional: false,
    }
}

fn batching() -> Signature {
    Signature {
        inputs: vec![
            spec("a", DataType::Fp32, &[3, -1]),
            spec("b", DataType::Uint8, &[2]),
        ],
        outputs: vec![spec("y", DataType::Fp32, &[1])],
        max_batch_size: 8,
    }
}

fn tensor(name: &str, datatype: DataType, dims: &[i64]) -> Tensor {
    let shape = Shape::new(dims.to_vec()).unwrap();
    let size = shape.byte_size(datatype).unwrap().unwrap();
    Tensor::new(name, datatype, shape, vec![0; size.try_into().unwrap()]).unwrap()
}

fn request(inputs: Vec<Tensor>) -> InferRequest {
    InferRequest {
        inputs,
        ..Default::default()
    }
}

fn pair(a: &[i64], b: &[i64]) -> InferRequest {
    request(vec![
        tensor("a", DataType::Fp32, a),
        tensor("b", DataType::Uint8, b),
    ])
}

fn refusal(signature: &Signature, request: InferRequest) -> String {
    signature.check(&request, "m").unwrap_err().to_string()
}

#[test]
fn a_fitting_request_yields_its_batch_size() {
    let signature = batching();
    for (items, length) in [(1, 1), (5, 7), (8, 0)] {
        let request = pair(&[items, 3, length], &[items, 2]);
        assert_eq!(
            signature.check(&request, "m"),
            Ok(usize::try_from(items).unwrap())
        );
    }
}

#[test]
fn order_of_inputs_does_not_matter() {
    let mut request = pair(&[2, 3, 1], &[2, 2]);
    request.inputs.reverse();
    assert_eq!(batching().check(&request, "m"), Ok(2));
}

#[test]
fn without_batching_a_request_counts_as_one_item() {
    let signature = Signature {
        max_batch_size: 0,
        ..batching()
    };
    assert_eq!(signature.check(&pair(&[3, 9], &[2]), "m"), Ok(1));
    assert!(
        refusal(&signature, pair(&[1, 3, 9], &[1, 2])).contains("carry no batch dimension"),
        "a batch dimension that is not wanted is named"
    );
}

#[test]
fn an_unknown_input_is_refused_with_those_there_are() {
    let mut request = pair(&[1, 3, 1], &[1, 2]);
    request.inputs.push(tensor("c", DataType::Bool, &[1, 1]));
    assert_eq!(
        refusal(&batching(), request),
        "unexpected inference input 'c' for model 'm'; its inputs are ['a','b']"
    );
}

#[test]
fn missing_inputs_are_listed() {
    let only_b = request(vec![tensor("b", DataType::Uint8, &[1, 2])]);
    assert_eq!(
        refusal(&batching(), only_b),
        "expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['b'], but missing \
         required input(s) ['a']. Please provide all required input(s)."
    );
    assert!(refusal(&batching(), request(vec![])).contains("Got input(s) [], but missing"));
}

#[test]
fn an_optional_input_may_be_left_out() {
    let mut signature = batching();
    signature.inputs[1].optional = true;
    let only_a = request(vec![tensor("a", DataType::Fp32, &[4, 3, 1])]);
    assert_eq!(signature.check(&only_a, "m"), Ok(4));
    let only_b = request(vec![tensor("b", DataType::Uint8, &[4, 2])]);
    assert!(
        refusal(&signature, only_b).contains("expected at least 1 inputs but got 1 inputs for")
    );
}

#[test]
fn a_batch_of_unknown_size_is_refused() {
    let mut signature = batching();
    for input in &mut signature.inputs {
        input.optional = true;
    }
    assert!(refusal(&signature, request(vec![])).contains("batch-size is unknown"));
    signature.max_batch_size = 0;
    assert_eq!(signature.check(&request(vec![]), "m"), Ok(1));
}

#[test]
fn another_datatype_is_refused() {
    let mut request = pair(&[1, 3, 1], &[1, 2]);
    request.inputs[1] = tensor("b", DataType::Int8, &[1, 2]);
    assert_eq!(
        refusal(&batching(), request),
        "inference input 'b' data-type is 'INT8', but model 'm' expects 'UINT8'"
    );
}

#[test]
fn another_shape_is_refused_with_both_shapes() {
    for (dims, got) in [
        (&[1, 4, 1][..], "[1,4,1]"),
        (&[1], "[1]"),
        (&[1, 3, 1, 1], "[1,3,1,1]"),
        (&[], "[]"),
    ] {
        assert_eq!(
            refusal(&batching(), pair(dims, &[1, 2])),
            format!("unexpected shape for input 'a' for model 'm'. Expected [-1,3,-1], got {got}.")
        );
    }
    assert!(refusal(&batching(), pair(&[3, 7], &[1, 2])).contains("prepend it"));
}

#[test]
fn batch_sizes_must_agree_and_fit() {
    assert_eq!(
        refusal(&batching(), pair(&[2, 3, 1], &[3, 2])),
        "input 'b' has batch size 3, but input 'a' has 2; the inputs of a request to 'm' must \
         share their first dimension"
    );
    assert!(
        refusal(&batching(), pair(&[9, 3, 1], &[9, 2]))
            .starts_with("inference request batch-size must be <= 8 for 'm'")
    );
    assert!(
        refusal(&batching(), pair(&[0, 3, 1], &[0, 2]))
            .starts_with("inference request batch-size must be >= 1 for 'm'")
    );
}

#[test]
fn requested_outputs_must_exist() {
    let mut request = pair(&[1, 3, 1], &[1, 2]);
    request.outputs = vec!["y".into()];
    assert!(batching().check(&request, "m").is_ok());
    request.outputs.push("z".into());
    assert_eq!(
        refusal(&batching(), request),
        "unexpected inference output 'z' for model 'm'; its outputs are ['y']"
    );
}

#[test]
fn metadata_shapes_begin_with_the_batch() {
    let mut signature = batching();
    assert_eq!(signature.metadata_shape(&signature.inputs[0]), [-1, 3, -1]);
    signature.max_batch_size = 0;
    assert_eq!(signature.metadata_shape(&signature.inputs[0]), [3, -1]);
}

fn reshaped(name: &str, dims: &[i64], reshape: &[i64]) -> TensorSpec {
    TensorSpec {
        reshape: Some(reshape.into()),
        ..spec(name, DataType::Uint8, dims)
    }
}

fn reshaping(max_batch_size: usize) -> Signature {
    Signature {
        inputs: vec![
            reshaped("a", &[2, 3, -1, 4, -1], &[6, -1, 2, 2, -1]),
            spec("b", DataType::Uint8, &[2]),
            reshaped("c", &[1], &[]),
        ],
        outputs: vec![reshaped("y", &[2, -1, 3, -1], &[1, 2, -1, 3, -1])],
        max_batch_size,
    }
}

#[test]
fn inputs_reach_the_model_in_its_own_shapes_with_the_same_elements() {
    for (max_batch_size, batch) in [(8, &[5][..]), (0, &[])] {
        let shape = |item: &[i64]| [batch, item].concat();
        let make = |name, item: &[i64]| tensor(name, DataType::Uint8, &shape(item));
        let signature = reshaping(max_batch_size);
        let sent = vec![
            make("a", &[2, 3, 7, 4, 5]),
            make("b", &[2]),
            make("c", &[1]),
        ];
        assert!(signature.check(&request(sent.clone()), "m").is_ok());
        let mut seen: Vec<_> = sent.iter().cloned().map(Some).collect();
        signature.reshape(&mut seen).unwrap();
        let items = [&[6, 7, 2, 2, 5][..], &[2], &[]];
        for ((sent, seen), item) in sent.iter().zip(seen.iter().flatten()).zip(items) {
            assert_eq!(seen.shape().dims(), shape(item));
            assert_eq!(
                (seen.name(), seen.datatype()),
                (sent.name(), sent.datatype())
            );
            assert_eq!(seen.data().as_ptr(), sent.data().as_ptr());
        }
    }
}

#[test]
fn requests_and_metadata_have_the_shapes_that_clients_see() {
    let signature = reshaping(8);
    let of_model = [
        tensor("a", DataType::Uint8, &[1, 6, 7, 2, 2, 5]),
        tensor("b", DataType::Uint8, &[1, 2]),
        tensor("c", DataType::Uint8, &[1, 1]),
    ];
    assert_eq!(
        refusal(&signature, request(of_model.into())),
        "unexpected shape for input 'a' for model 'm'. Expected [-1,2,3,-1,4,-1], got [1,6,7,2,2,5]."
    );
    assert_eq!(signature.metadata_shape(&signature.inputs[2]), [-1, 1]);
    let of_model = signature.of_model();
    assert_eq!(of_model.inputs[0].dims, [6, -1, 2, 2, -1]);
    assert_eq!(of_model.inputs[1], signature.inputs[1]);
    assert_eq!(of_model.outputs[0].dims, [1, 2, -1, 3, -1]);
    assert_eq!(of_model.of_model(), of_model);
}

#[test]
fn outputs_go_back_to_the_shapes_that_clients_see() {
    let signature = reshaping(8);
    let output = &signature.outputs[0];
    let seen = output.for_clients(&[1, 2, 7, 3, 4]);
    assert_eq!(seen.as_deref(), Some(&[2, 7, 3, 4][..]));
    for other in [&[2, 7, 3, 4][..], &[1, 2, 7, 4, 3], &[]] {
        assert_eq!(output.for_clients(other), None, "{other:?}");
    }
    assert_eq!(reshaped("y", &[1], &[]).for_clients(&[]), Some(vec![1]));
}
