//! The identity model: output `n` is input `n`. It shows what the server itself costs, and takes
//! datatypes that TorchScript has not.

use super::{Error, Instance, Model};
use crate::{device::Location, signature::Signature, tensor::Placed};

/// Echoes its inputs.
#[derive(Debug, Clone, Copy)]
pub struct Identity;

impl Identity {
    /// Makes the model for a signature.
    ///
    /// # Errors
    /// Inputs and outputs differ in number, datatype or shape.
    pub fn new(signature: &Signature) -> Result<Self, Error> {
        let (inputs, outputs) = (&signature.inputs, &signature.outputs);
        let fits = inputs.len() == outputs.len()
            && inputs.iter().zip(outputs).all(|(input, output)| {
                let is_same = input.model_dims() == output.model_dims();
                input.datatype == output.datatype && is_same && !input.optional
            });
        if !fits {
            return Err(Error::Mismatch(
                "backend \"identity\" needs as many outputs as inputs, each output with the \
                 data_type and dims (or reshape) of the input in its place; make them the same in \
                 config.pbtxt"
                    .to_owned(),
            ));
        }
        Ok(Self)
    }
}

impl Model for Identity {
    fn instance(&self, _location: Location) -> Result<Box<dyn Instance>, Error> {
        Ok(Box::new(*self))
    }
}

impl Instance for Identity {
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, Error> {
        Ok(inputs.into_iter().flatten().collect())
    }

    fn reset(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
