//! Each model is written, loaded by libtorch and run.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Barrier, thread};

use tch::{CModule, Device, IValue, Kind, Tensor};
use tempfile::TempDir;

use super::*;

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn repository(which: &[Fixture]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), which).unwrap();
    dir
}

/// Writes and loads one model, in evaluation mode as a server has it.
fn load(fixture: Fixture) -> CModule {
    tch::set_num_threads(1);
    let dir = repository(&[fixture]);
    let mut module = CModule::load(model_file(&dir, fixture)).unwrap();
    module.f_set_eval().unwrap();
    module
}

fn model_file(dir: &TempDir, fixture: Fixture) -> PathBuf {
    dir.path().join(fixture.name()).join("1/model.pt")
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::f_from_slice(values).unwrap()
}

fn tensors(value: IValue) -> Vec<Tensor> {
    match value {
        IValue::Tensor(tensor) => vec![tensor],
        IValue::Tuple(values) => values.into_iter().flat_map(tensors).collect(),
        other => panic!("expected tensors, got {other:?}"),
    }
}

/// Each row's result is the same alone as in a batch, and rows differ.
fn rows_are_independent(module: &CModule, batch: &Tensor) {
    let rows = batch.size()[0];
    let together = module.forward_ts(&[batch]).unwrap();
    assert_eq!(together.size()[0], rows);
    for row in 0..rows {
        let alone = module.forward_ts(&[batch.narrow(0, row, 1)]).unwrap();
        assert!(
            together
                .narrow(0, row, 1)
                .allclose(&alone, 1e-3, 1e-4, false)
        );
    }
    if rows > 1 {
        assert!(
            !together
                .get(0)
                .allclose(&together.get(1), 1e-3, 1e-4, false)
        );
    }
}

#[test]
fn resnet18_scores_images_in_batches_of_any_size() {
    let module = load(Fixture::ResNet18);
    for batch in [1, 2, 5] {
        let images = Tensor::randn([batch, 3, 224, 224], F32);
        assert_eq!(module.forward_ts(&[&images]).unwrap().size(), [batch, 1000]);
        rows_are_independent(&module, &images);
    }
}

#[test]
fn resnet18_has_scores_of_a_usable_size() {
    let scores = load(Fixture::ResNet18)
        .forward_ts(&[Tensor::randn([1, 3, 224, 224], F32)])
        .unwrap();
    let spread = scores.std(false).double_value(&[]);
    assert!((0.1..100.0).contains(&spread), "{spread}");
}

#[test]
fn mlp_scores_rows_in_batches_of_any_size() {
    let module = load(Fixture::Mlp);
    for batch in [1, 2, 5, 64] {
        let rows = Tensor::randn([batch, 784], F32);
        assert_eq!(module.forward_ts(&[&rows]).unwrap().size(), [batch, 10]);
        rows_are_independent(&module, &rows);
    }
}

#[test]
fn encoder_reads_texts_in_batches_of_any_size() {
    let module = load(Fixture::Encoder);
    for batch in [1, 2, 5] {
        let texts = Tensor::randint(4096, [batch, 128], (Kind::Int64, Device::Cpu));
        assert_eq!(module.forward_ts(&[&texts]).unwrap().size(), [batch, 256]);
        rows_are_independent(&module, &texts);
    }
}

#[test]
fn identity_returns_the_very_memory_it_was_given() {
    let module = load(Fixture::IdentityFp32);
    for shape in [[1, 1], [3, 7], [64, 1000]] {
        let x = Tensor::randn(shape, F32);
        let y = module.forward_ts(&[&x]).unwrap();
        assert_eq!((y.size(), y.data_ptr()), (x.size(), x.data_ptr()));
    }
}

#[test]
fn simple_returns_sum_and_difference() {
    let module = load(Fixture::Simple);
    for batch in [1, 3, 8] {
        let a = Tensor::arange(batch * 16, (Kind::Int, Device::Cpu)).view([batch, 16]);
        let b = Tensor::full([batch, 16], 5, (Kind::Int, Device::Cpu));
        let inputs = [a.shallow_clone(), b.shallow_clone()].map(IValue::Tensor);
        let outputs = tensors(module.forward_is(&inputs).unwrap());
        assert_eq!(outputs, [&a + &b, &a - &b]);
        assert_eq!(outputs[1].kind(), Kind::Int);
    }
}

#[test]
fn thrower_raises_a_long_text_for_a_negative_element_only() {
    let module = load(Fixture::Thrower);
    let fine = floats(&[0.0, -1.0]).view([1, 2]);
    assert_eq!(module.forward_ts(&[&fine]).unwrap(), fine);
    let text = module
        .forward_ts(&[floats(&[-1.5, 2.0]).view([1, 2])])
        .unwrap_err()
        .to_string();
    assert!(text.contains("the first element is -1.5"), "{text}");
    assert!(text.len() > 8192, "{} characters", text.len());
    // A fault leaves the module usable.
    assert_eq!(module.forward_ts(&[&fine]).unwrap(), fine);
}

#[test]
fn scaled_takes_scalar_arguments() {
    let module = load(Fixture::Scaled);
    let scaled = |times: i64, by: f64, negate: bool| {
        let x = IValue::Tensor(floats(&[1.0, 2.0]));
        let inputs = [x, times.into(), by.into(), negate.into()];
        tensors(module.forward_is(&inputs).unwrap()).remove(0)
    };
    assert_eq!(scaled(3, 2.0, false), floats(&[8.0, 16.0]));
    assert_eq!(scaled(1, 0.5, true), floats(&[-0.5, -1.0]));
    assert_eq!(scaled(0, 7.0, false), floats(&[1.0, 2.0]));
    assert_eq!(scaled(2, 2.0, false).kind(), Kind::Float);
}

fn count(module: &CModule, x: f32) -> (f64, f64) {
    let outputs = tensors(
        module
            .forward_is(&[IValue::Tensor(floats(&[x, 0.0]))])
            .unwrap(),
    );
    assert_eq!((outputs[0].size(), outputs[1].size()), (vec![2], vec![1]));
    assert_eq!(outputs[1].kind(), Kind::Float);
    (outputs[0].double_value(&[1]), outputs[1].double_value(&[0]))
}

#[test]
fn counter_remembers_until_it_is_reset() {
    let module = load(Fixture::Counter);
    assert_eq!(count(&module, 10.0), (1.0, 10.0));
    assert_eq!(count(&module, 0.5), (2.0, 10.5));
    let nothing: [IValue; 0] = [];
    assert_eq!(
        module.method_is("reset_states", &nothing).unwrap(),
        IValue::None
    );
    assert_eq!(count(&module, 1.0), (1.0, 1.0));
}

#[test]
fn plain_counter_remembers_and_cannot_be_reset() {
    let module = load(Fixture::CounterPlain);
    assert_eq!(count(&module, 10.0), (1.0, 10.0));
    assert_eq!(count(&module, 0.5), (2.0, 10.5));
    let nothing: [IValue; 0] = [];
    assert!(module.method_is("reset_states", &nothing).is_err());
}

#[test]
fn strings_come_back_in_upper_case() {
    let module = load(Fixture::Strings);
    let text = ["one", "", "Two 3"].map(str::to_owned).to_vec();
    let upper = module.forward_is(&[IValue::StringList(text)]).unwrap();
    // A list of strings goes in as one kind of value and comes out as another.
    let expected = ["ONE", "", "TWO 3"].map(IValue::from).into();
    assert_eq!(upper, IValue::GenericList(expected));
}

#[test]
fn wrong_output_loses_a_row() {
    let x = Tensor::randn([3, 4], F32);
    let y = load(Fixture::WrongOutput).forward_ts(&[&x]).unwrap();
    assert_eq!(y, x.narrow(0, 1, 2));
}

#[test]
fn holds_only_models_when_done() {
    let light = Fixture::ALL.into_iter().filter(|&f| f != Fixture::ResNet18);
    let light: Vec<_> = light.collect();
    let dir = repository(&light);
    let found: BTreeSet<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = light.iter().map(|fixture| fixture.name().to_owned());
    assert_eq!(found, expected.collect());
    for fixture in light {
        let name = format!("name: \"{fixture}\"\n");
        assert!(fixture.config().starts_with(&name), "{fixture}");
        assert_eq!(fixture.name().parse::<Fixture>().unwrap(), fixture);
    }
}

#[test]
fn keeps_what_is_current_and_replaces_what_is_not() {
    let fixture = Fixture::Simple;
    let dir = repository(&[fixture]);
    let file = model_file(&dir, fixture);
    let current = fs::read(&file).unwrap();
    assert_eq!(write_one(dir.path(), fixture).unwrap(), Outcome::Kept);
    fs::write(&file, b"of yesterday").unwrap();
    assert_eq!(write_one(dir.path(), fixture).unwrap(), Outcome::Written);
    assert_eq!(fs::read(&file).unwrap(), current);
    fs::remove_file(&file).unwrap();
    assert_eq!(write_one(dir.path(), fixture).unwrap(), Outcome::Written);
}

#[test]
fn keeps_a_traced_model_that_is_there() {
    let dir = repository(&[Fixture::IdentityFp32]);
    assert_eq!(
        write_one(dir.path(), Fixture::IdentityFp32).unwrap(),
        Outcome::Kept
    );
}

#[test]
fn of_several_writers_at_once_one_writes_and_the_others_keep_it() {
    const WRITERS: usize = 8;
    for fixture in [Fixture::Simple, Fixture::Counter, Fixture::Strings] {
        let dir = tempfile::tempdir().unwrap();
        let start = Barrier::new(WRITERS);
        let write = || {
            start.wait();
            write_one(dir.path(), fixture).unwrap()
        };
        let outcomes = thread::scope(|scope| {
            let writers = [(); WRITERS].map(|()| scope.spawn(write));
            writers.map(|writer| writer.join().unwrap())
        });
        let written = outcomes.iter().filter(|&&o| o == Outcome::Written);
        assert_eq!(written.count(), 1);
        CModule::load(model_file(&dir, fixture)).unwrap();
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let text = "resnet19".parse::<Fixture>().unwrap_err().to_string();
    assert!(
        text.contains("`resnet19`") && text.contains("resnet18, mlp"),
        "{text}"
    );
}
