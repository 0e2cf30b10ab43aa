//! TorchScript is frozen at load where that is seen to change nothing and to lose no time, and
//! instances share what no pass changes.

use std::{path::Path, thread};

use forebay_proto::{DataType, Shape};
use forebay_server::{
    device::Location,
    memory::Pool,
    model::{Instance, Model as _, TorchScript, TorchSettings},
    signature::{Signature, TensorSpec},
    tensor::{HostData, HostTensor, Placed},
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

fn load(dir: &Path, fixture: Fixture, signature: Signature, freeze: bool) -> TorchScript {
    models::write(dir, &[fixture]).unwrap();
    let file = dir.join(fixture.name()).join("1/model.pt");
    let settings = TorchSettings {
        intra_op_threads: 1,
        stateful: fixture == Fixture::Counter,
        freeze,
    };
    TorchScript::load(&file, signature, settings, Pool::new(0)).unwrap()
}

fn resnet() -> Signature {
    Signature {
        inputs: vec![spec("INPUT__0", DataType::Fp32, &[3, 224, 224])],
        outputs: vec![spec("OUTPUT__0", DataType::Fp32, &[1000])],
        max_batch_size: 8,
    }
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
    let resnet = load(dir.path(), Fixture::ResNet18, resnet(), true);
    println!("{}", resnet.why());
    assert_eq!(resnet.form(), "optimized", "{}", resnet.why());
    assert!(resnet.is_shared());
    let saved = load(dir.path(), Fixture::Mlp, mlp(), false);
    assert_eq!((saved.form().as_str(), saved.is_shared()), ("saved", false));
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
    let counter = load(dir.path(), Fixture::Counter, counter, true);
    assert!(counter.is_frozen(), "{}", counter.why());
    assert!(!counter.is_shared());
}

#[test]
fn a_model_that_refuses_the_probe_is_served_as_it_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = Signature {
        inputs: vec![spec("INPUT__0", DataType::Fp32, &[783])],
        ..mlp()
    };
    let model = load(dir.path(), Fixture::Mlp, wrong, true);
    assert!(!model.is_frozen());
    assert!(model.why().contains("made-up request"), "{}", model.why());
}

/// Runs a pass over rows of `value`, and returns the bytes of its output.
fn pass(instance: &mut dyn Instance, rows: usize, value: f32) -> Vec<u8> {
    let input = HostTensor {
        datatype: DataType::Fp32,
        shape: Shape::new(vec![i64::try_from(rows).unwrap(), 784]).unwrap(),
        data: HostData::Wire(value.to_le_bytes().repeat(rows * 784).into()),
    };
    let outputs = instance.forward(vec![Some(Placed::Host(input))]).unwrap();
    let output = outputs.into_iter().next().unwrap().into_host().unwrap();
    output.data.as_ref().to_vec()
}

#[test]
fn passes_of_instances_that_share_a_module_may_overlap() {
    const PASSES: u8 = 200;
    let dir = tempfile::tempdir().unwrap();
    let model = load(dir.path(), Fixture::Mlp, mlp(), true);
    assert!(model.is_shared(), "{}", model.why());
    let mut alone = model.instance(Location::Host).unwrap();
    // A model of its own, so that the first passes, which compile it, overlap too.
    let model = load(dir.path(), Fixture::Mlp, mlp(), true);
    thread::scope(|scope| {
        let running: Vec<_> = (0..2u8)
            .map(|which| {
                let mut instance = model.instance(Location::Host).unwrap();
                scope.spawn(move || {
                    let of = |pass: u8| (usize::from(pass % 5) + 1, f32::from(pass * 2 + which));
                    let passes = (0..PASSES / 2).map(of);
                    passes
                        .map(|(rows, value)| (rows, value, pass(&mut *instance, rows, value)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        for thread in running {
            for (rows, value, output) in thread.join().unwrap() {
                assert!(
                    output == pass(&mut *alone, rows, value),
                    "{rows} rows of {value}"
                );
            }
        }
    });
}

#[test]
fn a_model_that_writes_to_a_constant_is_not_shared() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.pt");
    let example = tch::Tensor::zeros([2, 784], (tch::Kind::Float, tch::Device::Cpu));
    let calls = tch::Tensor::zeros([1], (tch::Kind::Float, tch::Device::Cpu));
    // Its answers do not tell: only the graph does.
    let module = tch::CModule::create_by_tracing("Counts", "forward", &[example], &mut |inputs| {
        let _count = calls.shallow_clone().g_add_scalar_(1.0);
        vec![inputs[0].narrow(1, 0, 10) * 2.0]
    });
    module.unwrap().save(&file).unwrap();
    let settings = TorchSettings {
        intra_op_threads: 1,
        stateful: false,
        freeze: true,
    };
    let model = TorchScript::load(&file, mlp(), settings, Pool::new(0)).unwrap();
    println!("{}: {}", model.form(), model.why());
    assert!(model.is_frozen() && !model.is_shared());
}
