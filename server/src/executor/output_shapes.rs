//! Holds the shapes of a model's outputs against its configuration.
//!
//! The first dimension must be the batch, where the model batches, with as many behind it as `dims` has,
//! and an output with a `reshape` must have the shape that this says. Other dimensions may differ from `dims`: then clients are told the
//! shape that the output has, and the log once for each output of a version.

use std::sync::atomic::{AtomicBool, Ordering};

use forebay_proto::Shape;

use crate::{
    error::Error,
    model,
    signature::{Signature, TensorSpec},
    tensor::HostTensor,
};

/// What is known of the shapes of a version's outputs.
#[derive(Debug)]
pub struct OutputShapes {
    model: String,
    version: u64,
    /// For each output whether it had another shape than its `dims`.
    differ: Vec<AtomicBool>,
}

impl OutputShapes {
    /// Makes the record of a version whose outputs are those of `signature`.
    pub fn new(model: &str, version: u64, signature: &Signature) -> Self {
        let outputs = signature.outputs.iter();
        Self {
            model: model.to_owned(),
            version,
            differ: outputs.map(|_| AtomicBool::default()).collect(),
        }
    }

    /// Returns whether an output had another shape than its `dims`, so that what it depends on is not
    /// known.
    pub(super) fn differ(&self) -> bool {
        let mut outputs = self.differ.iter();
        outputs.any(|output| output.load(Ordering::Relaxed))
    }

    /// Gives the outputs of `rows` rows, or of one item without a batch dimension, the shapes that
    /// clients see.
    ///
    /// # Errors
    /// An output whose first dimension is not the batch, or with more or fewer others than `dims`, or whose shape is not that of its `reshape`.
    pub(super) fn settle(
        &self,
        outputs: &mut [HostTensor],
        specs: &[TensorSpec],
        rows: Option<usize>,
    ) -> Result<(), Error> {
        for (index, (output, spec)) in outputs.iter_mut().zip(specs).enumerate() {
            let (batch, item) =
                parts(&output.shape, rows).ok_or_else(|| misfit(spec, &output.shape, rows))?;
            if spec.reshape.is_some() {
                let seen = spec.for_clients(item);
                let seen = seen.ok_or_else(|| misfit(spec, &output.shape, rows))?;
                output.shape = Shape::new([batch, &seen[..]].concat())?;
            } else if rows.is_some() && item.len() != spec.dims.len() {
                // Its first dimension may be the batch by chance, and rows would go to others' requests.
                return Err(misfit(spec, &output.shape, rows));
            } else if !spec.fits(item) {
                self.tell(index, spec, item);
            }
        }
        Ok(())
    }

    fn tell(&self, index: usize, spec: &TensorSpec, item: &[i64]) {
        let output = self.differ.get(index);
        if output.is_some_and(|output| output.swap(true, Ordering::Relaxed)) {
            return;
        }
        tracing::warn!(
            model = self.model,
            version = self.version,
            output = spec.name,
            dims = ?spec.dims,
            actual = ?item,
            "an output has another shape than its dims, and is answered as it is; write dims that the model gives, with -1 where they vary"
        );
    }
}

/// Returns the batch dimension, if there is one, and those of an item; `None` where the first is not
/// the batch.
fn parts(shape: &Shape, rows: Option<usize>) -> Option<(&[i64], &[i64])> {
    let (batch, item) = shape.dims().split_at_checked(usize::from(rows.is_some()))?;
    let is_batch = rows.is_none_or(|rows| usize::try_from(batch[0]) == Ok(rows));
    is_batch.then_some((batch, item))
}

fn misfit(spec: &TensorSpec, shape: &Shape, rows: Option<usize>) -> Error {
    let batch = rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
    let dims = batch.into_iter().chain(spec.model_dims().iter().copied());
    let is_batched = parts(shape, rows).is_some();
    let mend = match (&spec.reshape, is_batched) {
        (Some(_), _) => "in its reshape; write there what the model gives",
        (None, true) => "with as many dimensions; write dims that the model gives",
        (None, false) => "with the batch first; write max_batch_size: 0 if the model has none",
    };
    Error::Model(model::Error::Output {
        name: spec.name.clone(),
        actual: format!("of shape {shape}"),
        expected: format!("{:?}, {mend}", dims.collect::<Vec<_>>()),
    })
}

#[cfg(test)]
#[path = "output_shapes_tests.rs"]
mod tests;
