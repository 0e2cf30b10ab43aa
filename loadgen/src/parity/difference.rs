//! How far two answers differ. Pure.

use anyhow::{Context, Result, bail, ensure};
use forebay_client::{DataType, Tensor, tensor};

/// The largest difference between two answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// As a part of the output's largest finite magnitude. Infinite where a value is not a number, or one
    /// is infinite and the other is not.
    pub part: f64,
    /// The output that differs so.
    pub output: String,
}

impl Difference {
    /// Compares all outputs, by name.
    ///
    /// # Errors
    /// An output is missing on one side, or has another shape or datatype, or one that is not
    /// compared.
    pub fn between(tested: &[Tensor], right: &[Tensor]) -> Result<Self> {
        ensure!(
            tested.len() == right.len(),
            "{} outputs, where {} are right",
            tested.len(),
            right.len()
        );
        let mut most = Self::default();
        for right in right {
            let name = right.name();
            let tested = tested.iter().find(|one| one.name() == name);
            let tested = tested.with_context(|| format!("there is no output '{name}'"))?;
            most = most.or(Self::of(tested, right)?);
        }
        Ok(most)
    }

    /// Returns the larger one.
    pub fn or(self, other: Self) -> Self {
        if other.part > self.part || self.output.is_empty() {
            other
        } else {
            self
        }
    }

    fn of(tested: &Tensor, right: &Tensor) -> Result<Self> {
        let name = right.name();
        ensure!(
            (tested.datatype(), tested.shape()) == (right.datatype(), right.shape()),
            "output '{name}' is {} {}, where {} {} is right",
            tested.datatype(),
            tested.shape(),
            right.datatype(),
            right.shape()
        );
        let (tested, right) = (values(tested)?, values(right)?);
        let finite = right.iter().filter(|value| value.is_finite());
        let magnitude = finite.map(|value| value.abs()).fold(0.0, f64::max);
        let pairs = tested.iter().zip(&right);
        let part = pairs.map(|(tested, right)| match (tested - right).abs() {
            _ if tested == right => 0.0,
            apart if apart.is_finite() => apart / magnitude.max(f64::MIN_POSITIVE),
            _ => f64::INFINITY,
        });
        Ok(Self {
            part: part.fold(0.0, f64::max),
            output: name.to_owned(),
        })
    }
}

fn values(of: &Tensor) -> Result<Vec<f64>> {
    Ok(match of.datatype() {
        DataType::Fp32 => tensor::to_vec::<f32>(of)?
            .into_iter()
            .map(f64::from)
            .collect(),
        DataType::Fp64 => tensor::to_vec::<f64>(of)?,
        DataType::Int32 => tensor::to_vec::<i32>(of)?
            .into_iter()
            .map(f64::from)
            .collect(),
        other => bail!("output '{}' is {other}, which is not compared", of.name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> [Tensor; 1] {
        [tensor::from_slice("y", values, [values.len() as i64]).unwrap()]
    }

    fn part(tested: &[f32], right: &[f32]) -> f64 {
        let found = Difference::between(&floats(tested), &floats(right)).unwrap();
        assert_eq!(found.output, "y");
        found.part
    }

    #[test]
    fn a_difference_is_a_part_of_the_largest_magnitude() {
        assert_eq!(part(&[1.0, -4.0], &[1.0, -4.0]), 0.0);
        assert_eq!(part(&[1.5, -4.0], &[1.0, -4.0]), 0.125);
        assert_eq!(part(&[0.0], &[0.0]), 0.0);
        assert!(part(&[1e-30], &[0.0]) > 1.0);
    }

    #[test]
    fn what_is_not_a_number_never_agrees() {
        assert_eq!(part(&[f32::NAN], &[f32::NAN]), f64::INFINITY);
        assert_eq!(part(&[f32::NAN, 0.0], &[1.0, 0.0]), f64::INFINITY);
        assert_eq!(part(&[f32::INFINITY], &[1.0]), f64::INFINITY);
        assert_eq!(part(&[f32::INFINITY], &[f32::INFINITY]), 0.0);
    }

    #[test]
    fn an_infinity_hides_no_difference_of_others() {
        let masked = [f32::NEG_INFINITY, 1.0, 2.0];
        assert_eq!(part(&masked, &masked), 0.0);
        assert_eq!(part(&[f32::NEG_INFINITY, 1.0, 3.0], &masked), 0.5);
        assert_eq!(part(&[f32::INFINITY, 1.0, 2.0], &masked), f64::INFINITY);
    }

    #[test]
    fn other_outputs_or_shapes_are_no_answer() {
        let text = |tested: &[Tensor], right: &[Tensor]| {
            Difference::between(tested, right).unwrap_err().to_string()
        };
        let right = floats(&[1.0, 2.0]);
        assert_eq!(text(&[], &right), "0 outputs, where 1 are right");
        let flat = [tensor::from_slice("y", &[1f32, 2.0], [2, 1]).unwrap()];
        assert!(text(&flat, &right).contains("is FP32"));
        let other = [tensor::from_slice("z", &[1f32, 2.0], [2]).unwrap()];
        assert_eq!(text(&other, &right), "there is no output 'y'");
    }
}
