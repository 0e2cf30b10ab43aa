//! Chooses the form that a model runs in: the furthest of those that answer a made-up request as the
//! saved one does, and that are faster.
//!
//! Invariant: besides the saved form at most one other is in memory at a time.

use std::path::Path;

use forebay_proto::DataType;

use super::{Form, Module, Plan, SharedModule, load, measure, sample, unloadable};
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
    let mut furthest = Form::Saved;
    let mut why = Vec::new();
    // The one that most was done to comes first: where it gains, the other has little to add.
    for form in [Form::Optimized, Form::Frozen] {
        let mut rival = match agreeing(plan, &saved, form, &expected) {
            Ok(rival) => rival,
            Err(fault) => {
                tracing::warn!(file = named(&plan.file), %form, %fault, "a form of the model is not taken");
                why.push(format!("{form} {fault}"));
                continue;
            }
        };
        if furthest == Form::Saved {
            furthest = form;
        }
        let times = measure::compare(plan, &mut saved, &mut rival)?;
        why.push(format!("{form} runs {times} as fast as saved"));
        if times.favour_the_rival() {
            return Ok(chosen(form, rival, furthest, &why));
        }
    }
    Ok(chosen(Form::Saved, saved, furthest, &why))
}

fn chosen(form: Form, module: Module, furthest: Form, why: &[String]) -> Choice {
    Choice {
        form,
        furthest,
        why: why.join("; "),
        module: module.share().ok(),
    }
}

fn answer(plan: &Plan, module: &mut Module) -> Result<Vec<Placed>, Error> {
    let inputs = request(plan, 1)?;
    plan.forward(|values| module.forward(values), inputs, Location::Host)
}

/// Makes the model in `form`, if it then answers as expected.
fn agreeing(
    plan: &Plan,
    saved: &Module,
    form: Form,
    expected: &[Placed],
) -> Result<Module, String> {
    let load = || match saved.in_form(form) {
        Some(made) => made.map_err(|text| unloadable(&plan.file, &text).to_string()),
        None => load(&plan.file, form, Location::Host).map_err(|error| error.to_string()),
    };
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
