//! TorchScript on the device answers as it does on the CPU.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use forebay_proto::{DataType, Shape};
use forebay_server::{
    device::{Accelerator, Device, Location},
    memory::Pool,
    model::{Answers, Instance, Model, TorchScript, TorchSettings, TrialError},
    signature::{Signature, TensorSpec},
    tensor::{HostData, HostTensor, Placed},
};
use forebay_tests::models::{self, Fixture};
use tch::{CModule, Kind, Tensor};

use super::rig::{FAST, SLOW, assert_nothing_is_held, byte, device, tensor, through};

fn spec(name: &str, datatype: DataType, dims: &[i64]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        datatype,
        dims: dims.to_vec(),
        reshape: None,
        optional: false,
    }
}

fn load(file: &Path, signature: Signature, freeze: bool) -> TorchScript {
    let settings = TorchSettings {
        intra_op_threads: 1,
        stateful: false,
        freeze,
    };
    TorchScript::load(file, signature, settings, Pool::new(0)).unwrap()
}

fn run(
    device: &Accelerator,
    model: &TorchScript,
    inputs: Vec<Option<HostTensor>>,
) -> Vec<HostTensor> {
    let mut instance = model.instance(device.location()).unwrap();
    let work = Box::new(move |inputs| instance.forward(inputs));
    through(device, inputs, &model.host_inputs(), work)
}

/// Runs trials as a model asks for them, of two passes each on the device, unless `spoil` has another
/// outcome for the nth; returns how many there were.
fn settle(
    device: &Accelerator,
    model: &TorchScript,
    spoil: impl Fn(usize, Vec<Answers>) -> Result<Vec<Answers>, TrialError>,
) -> usize {
    let mut trials = 0;
    let mut run = |instance: Box<dyn Instance>, inputs: &[Option<HostTensor>]| {
        let instance = Arc::new(Mutex::new(instance));
        let pass = |_| {
            let pinned = |input: &HostTensor| {
                let dims = input.shape.dims();
                tensor(device, input.datatype, dims, input.data.as_ref())
            };
            let inputs = inputs.iter().map(|input| input.as_ref().map(pinned));
            let its = Arc::clone(&instance);
            let work = Box::new(move |inputs| its.lock().unwrap().forward(inputs));
            through(device, inputs.collect(), &model.host_inputs(), work)
        };
        trials += 1;
        spoil(trials, (0..2).map(pass).collect())
    };
    model.settle(device.location(), &mut run);
    trials
}

fn floats(tensor: &HostTensor) -> Vec<f32> {
    let bytes = tensor.data.as_ref().as_chunks::<4>().0;
    bytes
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect()
}

#[test]
fn a_network_answers_as_on_the_cpu_saved_and_frozen() {
    // Before libtorch is used: it looks for accelerators once.
    let device = device(FAST);
    let dir = tempfile::tempdir().unwrap();
    models::write(dir.path(), &[Fixture::Mlp]).unwrap();
    let signature = Signature {
        inputs: vec![spec("INPUT__0", DataType::Fp32, &[784])],
        outputs: vec![spec("OUTPUT__0", DataType::Fp32, &[10])],
        max_batch_size: 64,
    };
    for freeze in [false, true] {
        let file = dir.path().join("mlp/1/model.pt");
        let model = load(&file, signature.clone(), freeze);
        assert!(freeze || !model.is_frozen());
        for rows in [1u8, 5] {
            let count = usize::from(rows) * 784;
            let values = (0..count).map(|at| u16::try_from(at % 97).unwrap());
            let bytes: Vec<u8> = values
                .flat_map(|at| (f32::from(at) / 97.0).to_le_bytes())
                .collect();
            let dims = [i64::from(rows), 784];
            let input = || tensor(&device, DataType::Fp32, &dims, &bytes);
            let mut on_cpu = model.instance(Location::Host).unwrap();
            let expected = on_cpu.forward(vec![Some(Placed::Host(input()))]).unwrap();
            let expected: Vec<_> = expected.into_iter().filter_map(Placed::into_host).collect();
            let actual = run(&device, &model, vec![Some(input())]);
            assert_eq!(actual[0].shape, expected[0].shape);
            let pairs = floats(&actual[0]).into_iter().zip(floats(&expected[0]));
            for (actual, expected) in pairs {
                assert!((actual - expected).abs() < 1e-4, "{actual} {expected}");
            }
        }
    }
    assert_nothing_is_held(&device);
}

#[test]
fn a_form_that_fails_on_the_device_or_answers_otherwise_is_not_taken_there() {
    let device = device(FAST);
    let dir = tempfile::tempdir().unwrap();
    models::write(dir.path(), &[Fixture::Mlp]).unwrap();
    let file = dir.path().join("mlp/1/model.pt");
    let load = || {
        let signature = Signature {
            inputs: vec![spec("INPUT__0", DataType::Fp32, &[784])],
            outputs: vec![spec("OUTPUT__0", DataType::Fp32, &[10])],
            max_batch_size: 64,
        };
        load(&file, signature, true)
    };
    let told = |model: &TorchScript| {
        let facts = model.facts(&[device.location()]);
        let [form, why] = [0, 1].map(|at| facts[at].1.clone());
        (form, why)
    };
    let model = load();
    assert_eq!(settle(&device, &model, |_, answers| Ok(answers)), 2);
    assert_eq!(told(&model).0, "optimized");

    drop(model);
    let model = load();
    // The first trial is the saved form's.
    let fails = |trial, answers| match trial {
        2 => Err(TrialError::Model("there is no engine".to_owned())),
        _ => Ok(answers),
    };
    assert_eq!(settle(&device, &model, fails), 3);
    let (form, why) = told(&model);
    assert_eq!(form, "frozen");
    let found = "optimized on an accelerator does not run: there is no engine; \
        frozen on an accelerator answers as the saved one does";
    assert!(why.ends_with(found), "{why}");

    // In its second pass, as of a graph that is made anew.
    let otherwise = |trial, mut answers: Vec<Answers>| {
        if trial > 1 {
            let zeros = vec![0; answers[1][0].data.as_ref().len()];
            answers[1][0].data = HostData::Wire(zeros.into());
        }
        Ok(answers)
    };
    drop(model);
    let model = load();
    assert_eq!(settle(&device, &model, otherwise), 3);
    let (form, why) = told(&model);
    assert_eq!(form, "saved");
    assert!(
        why.ends_with("frozen on an accelerator answers otherwise than the saved one"),
        "{why}"
    );
    // Nothing is left to try, and what says nothing of the model changes nothing.
    assert_eq!(settle(&device, &model, otherwise), 0);
    drop(model);
    let model = load();
    let unknown = |_, _| Err(TrialError::Other("no memory".to_owned()));
    assert_eq!(settle(&device, &model, unknown), 1);
    let (form, why) = told(&model);
    assert_eq!(form, "optimized");
    assert!(why.ends_with("no memory"), "{why}");
    drop(model);
    assert_nothing_is_held(&device);
}

#[test]
fn scalars_are_read_on_the_host_and_tensors_on_the_device() {
    let device = device(FAST);
    let dir = tempfile::tempdir().unwrap();
    models::write(dir.path(), &[Fixture::Scaled]).unwrap();
    let signature = Signature {
        inputs: vec![
            spec("x", DataType::Fp32, &[-1]),
            spec("times", DataType::Int64, &[1]),
            spec("by", DataType::Fp32, &[1]),
            spec("negate", DataType::Bool, &[1]),
        ],
        outputs: vec![spec("OUTPUT__0", DataType::Fp32, &[-1])],
        max_batch_size: 0,
    };
    let model = load(&dir.path().join("scaled/1/model.pt"), signature, true);
    assert_eq!(model.host_inputs(), [false, true, true, true]);
    let x: Vec<u8> = [1f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let inputs = vec![
        Some(tensor(&device, DataType::Fp32, &[2], &x)),
        Some(tensor(&device, DataType::Int64, &[1], &2i64.to_le_bytes())),
        Some(tensor(&device, DataType::Fp32, &[1], &3f32.to_le_bytes())),
        Some(tensor(&device, DataType::Bool, &[1], &[1])),
    ];
    let outputs = run(&device, &model, inputs);
    assert_eq!(floats(&outputs[0]), [-9.0, -18.0]);
    drop(outputs);
    assert_nothing_is_held(&device);
}

#[test]
fn texts_pass_by_the_device() {
    let device = device(FAST);
    let dir = tempfile::tempdir().unwrap();
    models::write(dir.path(), &[Fixture::Strings]).unwrap();
    let signature = Signature {
        inputs: vec![spec("text", DataType::Bytes, &[-1])],
        outputs: vec![spec("OUTPUT__0", DataType::Bytes, &[-1])],
        max_batch_size: 0,
    };
    let model = load(&dir.path().join("strings/1/model.pt"), signature, true);
    let input = HostTensor {
        datatype: DataType::Bytes,
        shape: Shape::new(vec![1]).unwrap(),
        data: HostData::Wire(b"\x02\0\0\0ab".to_vec().into()),
    };
    let outputs = run(&device, &model, vec![Some(input)]);
    assert_eq!(outputs[0].data.as_ref(), b"\x02\0\0\0AB");
}

/// Saves a model that copies its input on the device, and returns while the copy is on its way.
fn copier(dir: &Path) -> TorchScript {
    let example = Tensor::zeros([4], (Kind::Uint8, tch::Device::Cpu));
    let mut copy = |inputs: &[Tensor]| vec![inputs[0].f_detach_copy().unwrap()];
    let traced = CModule::create_by_tracing("Copier", "forward", &[example], &mut copy).unwrap();
    let file = dir.join("model.pt");
    traced.save(&file).unwrap();
    let signature = Signature {
        inputs: vec![spec("x", DataType::Uint8, &[4])],
        outputs: vec![spec("y", DataType::Uint8, &[4])],
        max_batch_size: 0,
    };
    load(&file, signature, false)
}

#[test]
fn memory_of_an_input_is_not_used_again_before_the_pass_has_read_it() {
    let device = device(SLOW);
    let dir = tempfile::tempdir().unwrap();
    let model = copier(dir.path());
    // The pass lets go of its input at once; the copy that it enqueued reads it 200 ms later.
    let outputs = run(&device, &model, byte(&device, 6));
    assert_eq!(outputs[0].data.as_ref(), [6; 4]);
    drop(outputs);
    assert_nothing_is_held(&device);
}
