//! TorchScript is frozen at load where that is seen to change nothing and to lose no time, and
//! instances share what no pass changes.

use std::{fs, path::Path, thread};

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
        reshape: None,
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
    // The gain is about a tenth. What disturbs a load may hide it, but not that of every load.
    let is_optimized = || {
        let resnet = load(dir.path(), Fixture::ResNet18, resnet(), true);
        println!("{}: {}", resnet.form(), resnet.why());
        assert!(
            resnet.why().starts_with("optimized runs"),
            "{}",
            resnet.why()
        );
        resnet.form() == "optimized"
    };
    assert!((0..5).any(|_| is_optimized()));
    let saved = load(dir.path(), Fixture::Mlp, mlp(), false);
    assert_eq!(saved.form(), "saved");
}

#[test]
fn a_model_with_state_may_be_frozen_and_is_not_shared() {
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
    // Every form answers as the saved one does, with state and all: the times alone decide.
    assert!(!counter.why().contains("otherwise"), "{}", counter.why());
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

/// Runs a pass over rows of `value`, and returns its output.
fn pass(instance: &mut dyn Instance, rows: usize, value: f32) -> Vec<f32> {
    let input = HostTensor {
        datatype: DataType::Fp32,
        shape: Shape::new(vec![i64::try_from(rows).unwrap(), 784]).unwrap(),
        data: HostData::Wire(value.to_le_bytes().repeat(rows * 784).into()),
    };
    let outputs = instance.forward(vec![Some(Placed::Host(input))]).unwrap();
    let output = outputs.into_iter().next().unwrap().into_host().unwrap();
    let numbers = output.data.as_ref().as_chunks::<4>().0.iter();
    numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Returns whether two outputs agree as far as forms may differ.
fn agree(one: &[f32], other: &[f32]) -> bool {
    let largest = one
        .iter()
        .fold(1.0f32, |largest, value| largest.max(value.abs()));
    let near = |(one, other): (&f32, &f32)| (one - other).abs() <= 1e-3 * largest;
    one.len() == other.len() && one.iter().zip(other).all(near)
}

#[test]
fn passes_of_instances_that_share_a_module_may_overlap() {
    const PASSES: u8 = 200;
    let dir = tempfile::tempdir().unwrap();
    let model = load(dir.path(), Fixture::Mlp, mlp(), true);
    let mut alone = model.instance(Location::Host).unwrap();
    let model = load(dir.path(), Fixture::Mlp, mlp(), true);
    let mut one = model.instance(Location::Host).unwrap();
    assert!(model.is_shared(), "{}", model.why());
    assert!(agree(&pass(&mut *one, 1, 0.5), &pass(&mut *alone, 1, 0.5)));
    assert!(!agree(&pass(&mut *one, 1, 0.6), &pass(&mut *alone, 1, 0.5)));
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
                let expected = pass(&mut *alone, rows, value);
                assert!(agree(&output, &expected), "{rows} rows of {value}");
            }
        }
    });
}

/// Returns the resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn instances_share_their_weights() {
    const WEIGHTS: u64 = 46 << 20;
    let dir = tempfile::tempdir().unwrap();
    let model = load(dir.path(), Fixture::ResNet18, resnet(), true);
    let mut first = model.instance(Location::Host).unwrap();
    image(&mut *first);
    let before = resident();
    let mut others: Vec<_> = (0..5)
        .map(|_| model.instance(Location::Host).unwrap())
        .collect();
    for instance in &mut others {
        image(&mut **instance);
    }
    let grown = resident().saturating_sub(before);
    println!("five more instances took {} KiB", grown >> 10);
    assert!(grown < WEIGHTS, "{grown}");
}

fn image(instance: &mut dyn Instance) {
    let input = HostTensor {
        datatype: DataType::Fp32,
        shape: Shape::new(vec![1, 3, 224, 224]).unwrap(),
        data: HostData::Wire(vec![0; 4 * 3 * 224 * 224].into()),
    };
    instance.forward(vec![Some(Placed::Host(input))]).unwrap();
}
