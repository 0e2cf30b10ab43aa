//! Chooses the form that a model runs in: the furthest of those that answer a made-up request as the
//! saved one does, and that are faster.
//!
//! Invariant: besides the saved form at most one other is in memory at a time.

use std::{path::Path, time::Duration};

use forebay_proto::DataType;

use super::{
    Form, Module, Plan, SharedModule, load,
    measure::{self, Rival},
    sample,
    stopwatch::Stopwatch,
    unloadable,
};
use crate::{
    device::Location,
    model::{Answers, Error, RowTime},
    tensor::{HostTensor, Placed},
};

/// Largest relative difference of an output, against the largest value in it. Freezing joins
/// operations, which rounds in other places.
const TOLERANCE: f64 = 1e-3;

/// The same on an accelerator, which may multiply with fewer digits (TF32 has 11) and choose other
/// algorithms for other operations.
const TOLERANCE_ELSEWHERE: f64 = 1e-2;

/// What is said of a form whose answers differ.
pub(super) const OTHERWISE: &str = "answers otherwise than the saved one";

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
    /// What its passes over one row took, where that was measured.
    pub(super) row: Option<RowTime>,
}

impl Choice {
    /// The saved form.
    pub(super) fn saved(why: String) -> Self {
        Self {
            form: Form::Saved,
            furthest: Form::Saved,
            why,
            module: None,
            row: None,
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
    let (expected, first) = answer(plan, &mut saved)?;
    let mut furthest = Form::Saved;
    let mut why = Vec::new();
    let mut row = None;
    // The one that most was done to comes first: where it gains, the other has little to add.
    for form in [Form::Optimized, Form::Frozen] {
        let mut refuse = |fault: &str| {
            tracing::warn!(file = named(&plan.file), %form, fault, "a form of the model is not taken");
            why.push(format!("{form} {fault}"));
        };
        let module = match made(plan, &saved, form) {
            Ok(module) => module,
            Err(fault) => {
                refuse(&fault);
                continue;
            }
        };
        if furthest != Form::Saved && saved.runs_the_same(&module) {
            why.push(format!("{form} runs the same operations as saved"));
            continue;
        }
        let mut rival = match agreeing(plan, module, &expected) {
            Ok(rival) => rival,
            Err(fault) => {
                refuse(&fault);
                continue;
            }
        };
        let measured = measure::compare(plan, &mut saved, &mut rival)?;
        // Once more: a graph may be specialised by its first calls. Where calls leave state behind,
        // they are not alike.
        if !plan.settings.stateful && !agree(&expected, &rival.answer) {
            refuse(OTHERWISE);
            continue;
        }
        if furthest == Form::Saved {
            furthest = form;
        }
        let times = measured.times;
        why.push(format!("{form} runs {times} as fast as saved"));
        let [of_saved, of_rival] = measured.rows;
        if times.favour_the_rival() {
            let (first, later) = (rival.first, of_rival);
            let row = Some(RowTime { first, later });
            return Ok(chosen((form, rival.module), furthest, &why, row));
        }
        let later = of_saved;
        row = Some(RowTime { first, later });
    }
    Ok(chosen((Form::Saved, saved), furthest, &why, row))
}

fn chosen(
    (form, module): (Form, Module),
    furthest: Form,
    why: &[String],
    row: Option<RowTime>,
) -> Choice {
    Choice {
        form,
        furthest,
        why: why.join("; "),
        module: module.share().ok(),
        row,
    }
}

/// Returns the answer to a made-up request, and what the pass took.
fn answer(plan: &Plan, module: &mut Module) -> Result<(Vec<Placed>, Duration), Error> {
    let (took, answer) = measure::pass(plan, module, 1, &Stopwatch::of_this_thread())?;
    Ok((answer, took))
}

/// Makes the model in `form`.
fn made(plan: &Plan, saved: &Module, form: Form) -> Result<Module, String> {
    match saved.in_form(form) {
        Some(made) => made.map_err(|text| unloadable(&plan.file, &text).to_string()),
        None => load(&plan.file, form, Location::Host).map_err(|error| error.to_string()),
    }
}

/// Returns what may be measured, if it answers as expected.
fn agreeing(plan: &Plan, mut module: Module, expected: &[Placed]) -> Result<Rival, String> {
    let (answer, first) =
        answer(plan, &mut module).map_err(|error| format!("does not run: {error}"))?;
    if agree(expected, &answer) {
        Ok(Rival {
            module,
            answer,
            first,
        })
    } else {
        Err(OTHERWISE.to_owned())
    }
}

fn agree(expected: &[Placed], actual: &[Placed]) -> bool {
    let mut pairs = expected.iter().zip(actual);
    let close = |pair: (&Placed, &Placed)| match pair {
        (Placed::Host(expected), Placed::Host(actual)) => close(TOLERANCE, expected, actual),
        _ => false,
    };
    expected.len() == actual.len() && pairs.all(close)
}

/// Returns whether an accelerator gave what it did for the saved form, pass by pass.
pub(super) fn agree_elsewhere(expected: &[Answers], actual: &[Answers]) -> bool {
    let alike = |(expected, actual): (&Answers, &Answers)| {
        let mut pairs = expected.iter().zip(actual);
        let close = |(expected, actual)| close(TOLERANCE_ELSEWHERE, expected, actual);
        expected.len() == actual.len() && pairs.all(close)
    };
    expected.len() == actual.len() && expected.iter().zip(actual).all(alike)
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

fn close(tolerance: f64, expected: &HostTensor, actual: &HostTensor) -> bool {
    if expected.shape != actual.shape || expected.datatype != actual.datatype {
        return false;
    }
    let (a, b) = (expected.data.as_ref(), actual.data.as_ref());
    match expected.datatype {
        DataType::Fp32 => near(
            tolerance,
            numbers(a, f32::from_le_bytes),
            numbers(b, f32::from_le_bytes),
        ),
        DataType::Fp64 => near(
            tolerance,
            numbers(a, f64::from_le_bytes),
            numbers(b, f64::from_le_bytes),
        ),
        DataType::Fp16 | DataType::Bf16 if tolerance > TOLERANCE => {
            let widened = match expected.datatype {
                DataType::Fp16 => from_half,
                _ => from_brain,
            };
            near(tolerance, numbers(a, widened), numbers(b, widened))
        }
        // These two have too few digits for a small tolerance to mean much.
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

/// Reads a number of 5 bits of exponent and 10 of fraction.
fn from_half(bytes: [u8; 2]) -> f64 {
    let bits = u16::from_le_bytes(bytes);
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// Reads the upper half of an `f32`.
fn from_brain([low, high]: [u8; 2]) -> f64 {
    f32::from_le_bytes([0, 0, low, high]).into()
}

fn near(tolerance: f64, expected: Vec<f64>, actual: Vec<f64>) -> bool {
    let finite = expected.iter().filter(|value| value.is_finite());
    let largest = finite.fold(0.0f64, |largest, value| largest.max(value.abs()));
    expected.iter().zip(actual).all(|(expected, actual)| {
        let same = expected.total_cmp(&actual).is_eq() || (expected.is_nan() && actual.is_nan());
        // Beside an infinity the difference is no number, or as infinite as the largest.
        same || (expected - actual).abs() <= tolerance * largest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_read_as_it_is_written() {
        let half = |bits: u16| from_half(bits.to_le_bytes());
        for (bits, number) in [
            (0x3c00, 1.0),
            (0xc500, -5.0),
            (0x3555, 0.333_251_953_125),
            (0x7bff, 65504.0),
            (0x0001, 2f64.powi(-24)),
            (0x8000, -0.0),
            (0xfc00, f64::NEG_INFINITY),
        ] {
            assert!(half(bits).total_cmp(&number).is_eq(), "{bits:x}");
        }
        assert!(half(0x7e00).is_nan());
        assert!((from_brain([0x49, 0x40]) - 3.140_625).abs() < 1e-12);
    }

    #[test]
    fn answers_beside_an_infinity_must_be_near_too() {
        let [inf, nan] = [f64::INFINITY, f64::NAN];
        assert!(near(TOLERANCE, vec![inf, 1.0, nan], vec![inf, 1.0, -nan]));
        let off = vec![-inf, 1.0 + TOLERANCE / 2.0];
        assert!(near(TOLERANCE, vec![-inf, 1.0], off));
        for (expected, actual) in [
            (vec![inf, 1.0], vec![inf, 100.0]),
            (vec![inf], vec![5.0]),
            (vec![5.0], vec![inf]),
            (vec![inf], vec![-inf]),
            (vec![1.0], vec![nan]),
        ] {
            assert!(
                !near(TOLERANCE, expected.clone(), actual.clone()),
                "{expected:?} {actual:?}"
            );
        }
    }
}
