//! Which modules are said to run the same operations.

use tch::{CModule, Kind, Tensor};

use super::*;

const FLOATS: (Kind, tch::Device) = (Kind::Float, tch::Device::Cpu);

/// Loads, as it was saved, what `trace` does to a tensor of 2 times 8 numbers.
fn traced(mut trace: impl FnMut(&Tensor) -> Tensor) -> Module {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.pt");
    let inputs = [Tensor::ones([2, 8], FLOATS)];
    let trace = &mut |inputs: &[Tensor]| vec![trace(&inputs[0])];
    let module = CModule::create_by_tracing("Traced", "forward", &inputs, trace);
    module.unwrap().save(&file).unwrap();
    Module::load(&file, Form::Saved, Location::Host).unwrap()
}

fn weight(dims: [i64; 2]) -> Tensor {
    Tensor::ones(dims, FLOATS)
}

#[test]
fn freezing_what_it_finds_nothing_to_do_in_leaves_the_operations_the_same() {
    let (hidden, out) = (weight([8, 8]), weight([8, 4]));
    // Freezing makes a constant of the list of dimensions.
    let saved = traced(|x| x.matmul(&hidden).relu().reshape([2, 8]).matmul(&out));
    let frozen = saved.in_form(Form::Frozen).unwrap().unwrap();
    assert!(saved.runs_the_same(&saved));
    assert!(saved.runs_the_same(&frozen) && frozen.runs_the_same(&saved));
}

#[test]
fn a_form_that_works_something_out_beforehand_does_not_run_the_same() {
    let (a, b) = (weight([8, 8]), weight([8, 8]));
    let saved = traced(|x| x.matmul(&a.matmul(&b)));
    let frozen = saved.in_form(Form::Frozen).unwrap().unwrap();
    assert!(!saved.runs_the_same(&frozen));
}

#[test]
fn operations_of_another_kind_or_order_or_on_other_values_are_not_the_same() {
    let one = traced(|x| x.relu().tanh() + x);
    assert!(one.runs_the_same(&traced(|x| x.relu().tanh() + x)));
    assert!(!one.runs_the_same(&traced(|x| x.relu().sigmoid() + x)));
    assert!(!one.runs_the_same(&traced(|x| x.tanh().relu() + x)));
    assert!(!one.runs_the_same(&traced(|x| {
        let relu = x.relu();
        relu.tanh() + relu
    })));
    assert!(!one.runs_the_same(&traced(|x| x.relu().tanh())));
}

#[test]
fn numbers_and_shapes_of_weights_that_change_the_work_are_not_the_same() {
    let sums = |dim: i64| traced(move |x| x.sum_dim_intlist(dim, false, None::<Kind>));
    assert!(sums(0).runs_the_same(&sums(0)));
    assert!(!sums(0).runs_the_same(&sums(1)));
    let product = |columns: i64| {
        let weight = weight([8, columns]);
        traced(move |x| x.matmul(&weight))
    };
    assert!(product(4).runs_the_same(&product(4)));
    assert!(!product(4).runs_the_same(&product(512)));
    let transposed = weight([4, 8]);
    assert!(!product(4).runs_the_same(&traced(|x| x.matmul(&transposed.tr()))));
    let reshaped = |dims: [i64; 2]| traced(move |x| x.reshape(dims));
    assert!(reshaped([4, 4]).runs_the_same(&reshaped([4, 4])));
    assert!(!reshaped([4, 4]).runs_the_same(&reshaped([8, 2])));
}
