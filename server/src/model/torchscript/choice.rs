//! Chooses the form that a model runs in: the fastest of those that answer a made-up request as the
//! saved one does.
//!
//! At most two forms are in memory at a time.

use std::path::Path;

use forebay_proto::DataType;

use super::{Form, Module, Plan, SharedModule, load, measure, sample};
use crate::{device::Location, model::Error, tensor::Placed};

/// Largest relative difference of an output, against the largest value in it. Freezing joins
/// operations, which rounds in other places.
const TOLERANCE: f64 = 1e-3;

/// The form that was chosen.
pub(super) struct Choice {
    /// What runs on the host.
    pub(super) form: Form,
    /// The furthest form whose answers are right, for places where the times were not measured.
    pub(super) furthest: Form,
    /// Why `form` was chosen.
    pub(super) why: String,
    /// The module on the host, where instances may share it.
    pub(super) module: Option<SharedModule>,
}

impl Choice {
    /// The saved form.
    pub(super) fn saved(why: String) -> Self {
        Self {
            form: Form::Saved,
            furthest: Form::Saved,
            why,
            module: None,
        }
    }
}

/// Chooses among the forms.
pub(super) fn choose(plan: &Plan, saved: Module) -> Choice {
    let file = named(&plan.file);
    match compare(plan, saved) {
        Ok(choice) => {
            tracing::info!(file, form = %choice.form, why = choice.why, "the form of the model was chosen");
            choice
        }
        Err(error) => {
            tracing::info!(file, %error, "the model is not frozen: it does not take a made-up request to check it by");
            Choice::saved(format!("it does not take a made-up request: {error}"))
        }
    }
}

fn named(file: &Path) -> String {
    file.display().to_string()
}

fn compare(plan: &Plan, mut saved: Module) -> Result<Choice, Error> {
    let expected = answer(plan, &mut saved)?;
    let (mut form, mut module, mut furthest) = (Form::Saved, saved, Form::Saved);
    let mut why = Vec::new();
    for rival_form in [Form::Frozen, Form::Optimized] {
        let mut rival = match agreeing(plan, rival_form, &expected) {
            Ok(rival) => rival,
            Err(fault) => {
                tracing::warn!(file = named(&plan.file), form = %rival_form, %fault, "a form of the model is not taken");
                why.push(format!("{rival_form} {fault}"));
                continue;
            }
        };
        furthest = rival_form;
        let times = measure::compare(plan, &mut module, &mut rival)?;
        why.push(format!("{rival_form} runs {times} as fast as {form}"));
        if times.favour_the_rival() {
            (form, module) = (rival_form, rival);
        }
    }
    Ok(Choice {
        form,
        furthest,
        why: why.join("; "),
        module: module.share().ok(),
    })
}

fn answer(plan: &Plan, module: &mut Module) -> Result<Vec<Placed>, Error> {
    let inputs = request(plan, 1)?;
    plan.forward(|values| module.forward(values), inputs, Location::Host)
}

/// Loads the model in `form`, if it then answers as expected.
fn agreeing(plan: &Plan, form: Form, expected: &[Placed]) -> Result<Module, String> {
    let load = || load(&plan.file, form, Location::Host).map_err(|error| error.to_string());
    let answer = |module: &mut Module| {
        answer(plan, module).map_err(|error| format!("does not run: {error}"))
    };
    let mut module = load()?;
    // Twice: a graph may be specialised by its first call.
    answer(&mut module)?;
    if plan.settings.stateful {
        module = load()?;
    }
    let actual = answer(&mut module)?;
    let agrees = expected.len() == actual.len()
        && expected
            .iter()
            .zip(&actual)
            .all(|(expected, actual)| close(expected, actual));
    if agrees {
        Ok(module)
    } else {
        Err("answers otherwise than the saved one".to_owned())
    }
}

/// Makes up a request of `rows` rows, or one without a batch dimension.
pub(super) fn request(plan: &Plan, rows: usize) -> Result<Vec<Option<Placed>>, Error> {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let rows = plan.signature.is_batching().then_some(rows);
    plan.signature
        .inputs
        .iter()
        .map(|spec| Ok(Some(Placed::Host(sample::tensor(spec, rows)?))))
        .collect()
}

fn close(expected: &Placed, actual: &Placed) -> bool {
    let (Placed::Host(expected), Placed::Host(actual)) = (expected, actual) else {
        return false;
    };
    if expected.shape != actual.shape || expected.datatype != actual.datatype {
        return false;
    }
    let (a, b) = (expected.data.as_ref(), actual.data.as_ref());
    match expected.datatype {
        DataType::Fp32 => near(
            numbers(a, f32::from_le_bytes),
            numbers(b, f32::from_le_bytes),
        ),
        DataType::Fp64 => near(
            numbers(a, f64::from_le_bytes),
            numbers(b, f64::from_le_bytes),
        ),
        // Other floating-point types have too few digits for a tolerance to mean much.
        _ => a == b,
    }
}

fn numbers<const SIZE: usize, T: Into<f64>>(
    bytes: &[u8],
    read: impl Fn([u8; SIZE]) -> T,
) -> Vec<f64> {
    bytes
        .as_chunks::<SIZE>()
        .0
        .iter()
        .map(|chunk| read(*chunk).into())
        .collect()
}

fn near(expected: Vec<f64>, actual: Vec<f64>) -> bool {
    let largest = expected
        .iter()
        .fold(0.0f64, |largest, value| largest.max(value.abs()));
    expected.iter().zip(actual).all(|(expected, actual)| {
        let same = expected.total_cmp(&actual).is_eq();
        same || (expected - actual).abs() <= TOLERANCE * largest
    })
}
