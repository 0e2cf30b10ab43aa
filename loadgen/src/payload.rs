//! Requests made from a model's signature, whole and encoded before the first is due.
//!
//! Invariant: [`Pool::request`] copies no tensor, so the time it takes does not depend on their
//! size.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use forebay_client::{
    DataType, ModelMetadata, Parameter, ProtocolError, Request, Shape, Tensor, TensorMetadata,
    tensor,
};
use rand::{Rng, RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use crate::target::Place;

/// Characters in an element of BYTES.
const TEXT: usize = 16;

/// Integers stay below this, so that they serve as indices into most tables.
const INTEGERS: u8 = 100;

/// What the requests of a run are made of.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Shapes by input, for those that have dimensions of any size.
    pub shapes: BTreeMap<String, Vec<i64>>,
    /// The size of the batch dimension; `None` leaves it to `shapes`, or 1.
    pub batch: Option<i64>,
    /// Different requests.
    pub variants: usize,
    /// Parameters of every request.
    pub parameters: BTreeMap<String, Parameter>,
    /// The time that the server is told an answer may take; `None` tells it nothing.
    pub timeout: Option<Duration>,
    /// The seed of the contents.
    pub seed: u64,
}

/// Why no request can be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pool of nothing.
    #[error("at least one payload variant is needed; raise --variants")]
    NoVariants,
    /// A shape for an input that the model lacks.
    #[error("the model has no input '{input}'; it has {known}")]
    UnknownInput {
        /// The name given.
        input: String,
        /// The model's inputs.
        known: String,
    },
    /// A dimension of any size, and no size given.
    #[error("input '{input}' has shape {shape:?}; say its size with --shape {input}:<dims>")]
    Unknown {
        /// The input.
        input: String,
        /// Its shape as the model has it.
        shape: Vec<i64>,
    },
    /// A shape that the model does not take.
    #[error("shape {given:?} does not fit input '{input}' of shape {shape:?}")]
    Unfit {
        /// The input.
        input: String,
        /// The shape given.
        given: Vec<i64>,
        /// Its shape as the model has it.
        shape: Vec<i64>,
    },
    /// A batch for a model that does not batch.
    #[error("input '{input}' of shape {shape:?} has no batch dimension; leave --batch out")]
    NoBatch {
        /// The input.
        input: String,
        /// Its shape as the model has it.
        shape: Vec<i64>,
    },
    /// The tensor is none.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Requests that are ready to be sent.
#[derive(Debug, Clone)]
pub struct Pool {
    requests: Vec<Request>,
    inputs: Vec<(String, DataType, Vec<i64>)>,
}

impl Pool {
    /// Makes `options.variants` requests for `model`, with random contents.
    ///
    /// # Errors
    /// The shapes given do not suit the model, or leave a dimension open.
    pub fn build(model: &ModelMetadata, options: &Options) -> Result<Self, Error> {
        if options.variants == 0 {
            return Err(Error::NoVariants);
        }
        if let Some(input) = options
            .shapes
            .keys()
            .find(|name| model.inputs.iter().all(|input| input.name != **name))
        {
            let known: Vec<&str> = model.inputs.iter().map(|input| &*input.name).collect();
            return Err(Error::UnknownInput {
                input: input.clone(),
                known: known.join(", "),
            });
        }
        let inputs = model
            .inputs
            .iter()
            .map(|input| {
                let given = options.shapes.get(&input.name);
                let shape = shape(input, given.map(Vec::as_slice), options.batch)?;
                Ok((input.name.clone(), input.datatype, shape))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(options.seed);
        let requests = (0..options.variants)
            .map(|_| {
                let mut request = Request::new(&model.name);
                if let Some(timeout) = options.timeout {
                    request = request.with_timeout(timeout);
                }
                for (name, value) in &options.parameters {
                    request = request.with_parameter(name, value.clone());
                }
                for (name, datatype, shape) in &inputs {
                    request = request.with_input(random(name, *datatype, shape, &mut rng)?);
                }
                Ok(request)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { requests, inputs })
    }

    /// Returns the same requests for another model, which share their tensors with these.
    pub fn for_model(&self, model: &str) -> Self {
        let mut pool = self.clone();
        for request in &mut pool.requests {
            request.set_model(model);
        }
        pool
    }

    /// Returns the request for the `number`th shot. Variants take turns.
    pub fn request(&self, number: u64, place: Option<Place>) -> Request {
        let variants = self.requests.len() as u64;
        let variant = usize::try_from(number % variants).expect("it is below a usize");
        let request = self.requests[variant].clone();
        match place {
            None => request,
            Some(Place {
                sequence,
                start,
                end,
            }) => request.with_sequence(sequence, start, end),
        }
    }

    /// Returns name, datatype and shape of each input.
    pub fn inputs(&self) -> &[(String, DataType, Vec<i64>)] {
        &self.inputs
    }

    /// Returns the first dimension of the first input: a request's rows, where the model batches.
    pub fn rows(&self) -> u64 {
        let first = self.inputs.first().and_then(|(_, _, shape)| shape.first());
        first.map_or(1, |&rows| rows.try_into().unwrap_or(1))
    }

    /// Returns the bytes of the largest request's tensors.
    pub fn bytes(&self) -> usize {
        self.requests
            .iter()
            .map(Request::bytes)
            .max()
            .unwrap_or_default()
    }
}

/// Returns the shape to send. A leading dimension of any size is the batch: `given` may leave it
/// out, and it is 1 unless `batch` or `given` says otherwise.
fn shape(
    input: &TensorMetadata,
    given: Option<&[i64]>,
    batch: Option<i64>,
) -> Result<Vec<i64>, Error> {
    let known = &input.shape;
    let batches = known.first() == Some(&-1);
    let mut shape = match given {
        None => known.clone(),
        Some(given) if batches && given.len() + 1 == known.len() => [&[-1], given].concat(),
        Some(given) => given.to_vec(),
    };
    match batch {
        Some(batch) if batches && !shape.is_empty() => shape[0] = batch,
        Some(batch) if batch != 1 => {
            return Err(Error::NoBatch {
                input: input.name.clone(),
                shape: known.clone(),
            });
        }
        _ if batches && shape.first() == Some(&-1) => shape[0] = 1,
        _ => {}
    }
    let fits = shape.len() == known.len()
        && shape
            .iter()
            .zip(known)
            .all(|(dim, known)| *known == -1 || dim == known);
    if !fits {
        return Err(Error::Unfit {
            input: input.name.clone(),
            given: given.unwrap_or(&shape).to_vec(),
            shape: known.clone(),
        });
    }
    if shape.iter().any(|dim| *dim < 0) {
        return Err(Error::Unknown {
            input: input.name.clone(),
            shape: known.clone(),
        });
    }
    Ok(shape)
}

fn random(
    name: &str,
    datatype: DataType,
    dims: &[i64],
    rng: &mut impl Rng,
) -> Result<Tensor, ProtocolError> {
    let shape = Shape::new(dims.to_vec())?;
    let Some(bytes) = shape.byte_size(datatype)? else {
        let elements: Vec<[u8; TEXT]> = (0..shape.elements())
            .map(|_| std::array::from_fn(|_| rng.random_range(b'a'..=b'z')))
            .collect();
        return tensor::from_strings(name, &elements, dims);
    };
    let mut data = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    for _ in 0..shape.elements() {
        element(datatype, rng, &mut data);
    }
    Tensor::new(name, datatype, shape, Bytes::from(data))
}

/// Appends one element in little-endian bytes: numbers from 0 to 1, or whole ones below
/// [`INTEGERS`].
fn element(datatype: DataType, rng: &mut impl Rng, data: &mut Vec<u8>) {
    let integer = rng.random_range(0..INTEGERS);
    match datatype {
        DataType::Fp32 => data.extend(rng.random::<f32>().to_le_bytes()),
        DataType::Fp64 => data.extend(rng.random::<f64>().to_le_bytes()),
        // The exponent of 0.5 and a random fraction: from 0.5 to 1.
        DataType::Fp16 => data.extend((0x3800 | rng.random_range(0..1u16 << 10)).to_le_bytes()),
        DataType::Bf16 => data.extend((0x3f00 | rng.random_range(0..1u16 << 7)).to_le_bytes()),
        DataType::Bool => data.push(integer % 2),
        DataType::Bytes => {}
        _ => {
            let rest = datatype.size().map_or(0, |size| size - 1);
            data.push(integer);
            data.extend(std::iter::repeat_n(0, rest));
        }
    }
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
