//! TorchScript is frozen at load where that is seen to change nothing.

use std::path::Path;

use forebay_proto::DataType;
use forebay_server::{
    memory::Pool,
    model::{TorchScript, TorchSettings},
    signature::{Signature, TensorSpec},
};
use forebay_tests::models::{self, Fixture};

fn spec(name: &str, datatype: DataType, dims: &[i64]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        datatype,
        dims: dims.to_vec(),
        optional: false,
    }
}

fn is_frozen(dir: &Path, fixture: Fixture, signature: Signature, freeze: bool) -> bool {
    models::write(dir, &[fixture]).unwrap();
    let file = dir.join(fixture.name()).join("1/model.pt");
    let settings = TorchSettings {
        intra_op_threads: 1,
        stateful: fixture == Fixture::Counter,
        freeze,
    };
    TorchScript::load(&file, signature, settings, Pool::new(0))
        .unwrap()
        .is_frozen()
}

fn mlp() -> Signature {
    Signature {
        inputs: vec![spec("INPUT__0", DataType::Fp32, &[784])],
        outputs: vec![spec("OUTPUT__0", DataType::Fp32, &[10])],
        max_batch_size: 64,
    }
}

#[test]
fn a_network_is_frozen_unless_its_configuration_says_no() {
    let dir = tempfile::tempdir().unwrap();
    assert!(is_frozen(dir.path(), Fixture::Mlp, mlp(), true));
    assert!(!is_frozen(dir.path(), Fixture::Mlp, mlp(), false));
}

#[test]
fn a_model_with_state_is_frozen_and_keeps_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let counter = Signature {
        inputs: vec![spec("x", DataType::Fp32, &[-1])],
        outputs: vec![
            spec("OUTPUT__0", DataType::Fp32, &[-1]),
            spec("OUTPUT__1", DataType::Fp32, &[1]),
        ],
        max_batch_size: 0,
    };
    // That it still counts is shown by the suite `sequences`, which serves it.
    assert!(is_frozen(dir.path(), Fixture::Counter, counter, true));
}

#[test]
fn a_model_that_refuses_the_probe_is_served_as_it_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = Signature {
        inputs: vec![spec("INPUT__0", DataType::Fp32, &[783])],
        ..mlp()
    };
    assert!(!is_frozen(dir.path(), Fixture::Mlp, wrong, true));
}
