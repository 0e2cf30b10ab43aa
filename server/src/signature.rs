//! What a model takes and gives, and whether a request fits it.
//!
//! A [`Signature`] comes from a model's configuration; every request is held against it before
//! anything is queued, so that what reaches a device has the names, datatypes and shapes that the
//! model was written for. Where clients and model see a tensor in different shapes (`reshape`), what
//! is told and checked here is what clients see.
//!
//! Invariant: a request that fits allocates nothing here; the words are made for refusals only.

mod error;
mod tensor_spec;

use forebay_proto::{InferRequest, ProtocolError, Tensor};

pub use self::{error::Error, tensor_spec::TensorSpec};

/// The tensors of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// What a request may bring, in the order of the configuration.
    pub inputs: Vec<TensorSpec>,
    /// What a response holds, in the order of the configuration.
    pub outputs: Vec<TensorSpec>,
    /// Most items in one execution; 0 means that tensors have no batch dimension.
    pub max_batch_size: usize,
}

impl Signature {
    /// Returns whether the first dimension of every tensor is the batch.
    pub fn is_batching(&self) -> bool {
        self.max_batch_size > 0
    }

    /// Returns the spec of an input, by name.
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|spec| spec.name == name)
    }

    /// Returns the spec of an output, by name.
    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|spec| spec.name == name)
    }

    /// Returns a tensor's shape as clients see it: with a leading -1 where the model batches.
    pub fn metadata_shape(&self, spec: &TensorSpec) -> Vec<i64> {
        let batch = self.is_batching().then_some(-1);
        batch.into_iter().chain(spec.dims.iter().copied()).collect()
    }

    /// Returns the signature as the model sees it: with what it is to be reshaped to in place of
    /// what clients see.
    pub fn of_model(&self) -> Self {
        let of_model = |spec: &TensorSpec| TensorSpec {
            dims: spec.model_dims().to_vec(),
            reshape: None,
            ..spec.clone()
        };
        Self {
            inputs: self.inputs.iter().map(of_model).collect(),
            outputs: self.outputs.iter().map(of_model).collect(),
            max_batch_size: self.max_batch_size,
        }
    }

    /// Returns how many items `request` asks for: its batch size, or 1 where tensors have no
    /// batch dimension.
    ///
    /// # Errors
    /// An input or requested output that `model` does not have, a required input that is absent,
    /// another datatype or shape than configured, inputs with unequal batch sizes, or a batch of
    /// none or of more items than the model takes.
    pub fn check(&self, request: &InferRequest, model: &str) -> Result<usize, Error> {
        for name in &request.outputs {
            if self.output(name).is_none() {
                return Err(Error::unexpected_output(self, name, model));
            }
        }
        let mut batch = None;
        for tensor in &request.inputs {
            let Some(spec) = self.input(tensor.name()) else {
                return Err(Error::unexpected_input(self, tensor.name(), model));
            };
            self.check_tensor(spec, tensor, model)?;
            if let Some(&items) = tensor.shape().dims().first().filter(|_| self.is_batching()) {
                let (first, expected) = *batch.get_or_insert((tensor, items));
                if items != expected {
                    return Err(Error::UnequalBatch {
                        model: model.to_owned(),
                        input: tensor.name().to_owned(),
                        actual: items,
                        first: first.name().to_owned(),
                        expected,
                    });
                }
            }
        }
        let comes = |spec: &TensorSpec| request.inputs.iter().any(|it| it.name() == spec.name);
        if !self.inputs.iter().all(|spec| spec.optional || comes(spec)) {
            return Err(Error::missing_inputs(self, request, model));
        }
        match batch {
            Some((_, items)) => self.check_batch(items, model),
            None if self.is_batching() => Err(Error::NoBatch {
                model: model.to_owned(),
            }),
            None => Ok(1),
        }
    }

    /// Gives inputs, which are in the order of the signature and fit it, the shapes that the model
    /// sees.
    ///
    /// # Errors
    /// They do not fit.
    pub(crate) fn reshape(&self, inputs: &mut [Option<Tensor>]) -> Result<(), ProtocolError> {
        for (input, spec) in inputs.iter_mut().zip(&self.inputs) {
            if spec.reshape.is_some()
                && let Some(tensor) = input.take()
            {
                *input = Some(spec.reshaped(tensor, self.is_batching())?);
            }
        }
        Ok(())
    }

    fn check_tensor(&self, spec: &TensorSpec, tensor: &Tensor, model: &str) -> Result<(), Error> {
        if tensor.datatype() != spec.datatype {
            return Err(Error::Datatype {
                model: model.to_owned(),
                input: spec.name.clone(),
                actual: tensor.datatype(),
                expected: spec.datatype,
            });
        }
        let dims = tensor.shape().dims();
        let item = if self.is_batching() {
            dims.get(1..)
        } else {
            Some(dims)
        };
        if item.is_some_and(|item| spec.fits(item)) {
            Ok(())
        } else {
            Err(Error::unexpected_shape(self, spec, dims, model))
        }
    }

    fn check_batch(&self, items: i64, model: &str) -> Result<usize, Error> {
        match usize::try_from(items) {
            Ok(0) => Err(Error::EmptyBatch {
                model: model.to_owned(),
            }),
            Ok(items) if items <= self.max_batch_size => Ok(items),
            _ => Err(Error::BatchTooLarge {
                model: model.to_owned(),
                items,
                limit: self.max_batch_size,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
