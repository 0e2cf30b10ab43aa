//! Why a request does not fit a model, in the phrases that Triton's users search for.

use std::fmt::Write as _;

use forebay_proto::{DataType, InferRequest};

use super::{Signature, TensorSpec};

/// A request does not fit the model's signature. Every variant is the client's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An input that the model does not have.
    #[error("unexpected inference input '{input}' for model '{model}'; its inputs are {known}")]
    UnexpectedInput {
        /// The model.
        model: String,
        /// The input.
        input: String,
        /// The inputs there are.
        known: String,
    },
    /// A requested output that the model does not have.
    #[error("unexpected inference output '{output}' for model '{model}'; its outputs are {known}")]
    UnexpectedOutput {
        /// The model.
        model: String,
        /// The output.
        output: String,
        /// The outputs there are.
        known: String,
    },
    /// Inputs that the model needs are absent.
    #[error(
        "expected {expected} inputs but got {actual} inputs for model '{model}'. \
         Got input(s) {got}, but missing required input(s) {missing}. \
         Please provide all required input(s)."
    )]
    MissingInputs {
        /// The model.
        model: String,
        /// How many inputs it has; "at least" where some are optional.
        expected: String,
        /// How many came.
        actual: usize,
        /// Those that came.
        got: String,
        /// Those that are absent.
        missing: String,
    },
    /// An input of another datatype.
    #[error(
        "inference input '{input}' data-type is '{actual}', but model '{model}' expects '{expected}'"
    )]
    Datatype {
        /// The model.
        model: String,
        /// The input.
        input: String,
        /// The datatype that came.
        actual: DataType,
        /// The datatype configured.
        expected: DataType,
    },
    /// An input of another shape.
    #[error(
        "unexpected shape for input '{input}' for model '{model}'. Expected {expected}, got {actual}.{hint}"
    )]
    UnexpectedShape {
        /// The model.
        model: String,
        /// The input.
        input: String,
        /// The shape as metadata shows it.
        expected: String,
        /// The shape that came.
        actual: String,
        /// What may have been overlooked; empty, or a sentence after a space.
        hint: String,
    },
    /// Two inputs that disagree on the number of items.
    #[error(
        "input '{input}' has batch size {actual}, but input '{first}' has {expected}; \
         the inputs of a request to '{model}' must share their first dimension"
    )]
    UnequalBatch {
        /// The model.
        model: String,
        /// The input that differs.
        input: String,
        /// Its first dimension.
        actual: i64,
        /// The first input of the request.
        first: String,
        /// The first dimension of that.
        expected: i64,
    },
    /// More items than the model takes at once.
    #[error(
        "inference request batch-size must be <= {limit} for '{model}', but it is {items}; \
         split the request"
    )]
    BatchTooLarge {
        /// The model.
        model: String,
        /// Items in the request.
        items: i64,
        /// Items the model takes.
        limit: usize,
    },
    /// A batch without items.
    #[error(
        "inference request batch-size must be >= 1 for '{model}', but it is 0; \
         the first dimension of each input is the batch"
    )]
    EmptyBatch {
        /// The model.
        model: String,
    },
    /// No input at all, so that the size of the batch is unknown.
    #[error(
        "inference request for model '{model}' has no inputs, so its batch-size is unknown; \
         provide one of the optional inputs"
    )]
    NoBatch {
        /// The model.
        model: String,
    },
}

impl Error {
    pub(super) fn unexpected_input(signature: &Signature, input: &str, model: &str) -> Self {
        Self::UnexpectedInput {
            model: model.to_owned(),
            input: input.to_owned(),
            known: quoted(names(&signature.inputs)),
        }
    }

    pub(super) fn unexpected_output(signature: &Signature, output: &str, model: &str) -> Self {
        Self::UnexpectedOutput {
            model: model.to_owned(),
            output: output.to_owned(),
            known: quoted(names(&signature.outputs)),
        }
    }

    pub(super) fn missing_inputs(
        signature: &Signature,
        request: &InferRequest,
        model: &str,
    ) -> Self {
        let required: Vec<&TensorSpec> = signature
            .inputs
            .iter()
            .filter(|spec| !spec.optional)
            .collect();
        let count = required.len();
        let has = |name: &str| request.inputs.iter().any(|tensor| tensor.name() == name);
        Self::MissingInputs {
            model: model.to_owned(),
            expected: if count == signature.inputs.len() {
                count.to_string()
            } else {
                format!("at least {count}")
            },
            actual: request.inputs.len(),
            got: quoted(request.inputs.iter().map(|tensor| tensor.name())),
            missing: quoted(
                required
                    .iter()
                    .map(|spec| spec.name.as_str())
                    .filter(|name| !has(name)),
            ),
        }
    }

    pub(super) fn unexpected_shape(
        signature: &Signature,
        spec: &TensorSpec,
        actual: &[i64],
        model: &str,
    ) -> Self {
        let hint = if signature.is_batching() && spec.fits(actual) {
            " NOTE: the model batches, so that every shape begins with the number of items; prepend it."
        } else if !signature.is_batching() && actual.get(1..).is_some_and(|item| spec.fits(item)) {
            " NOTE: the model has max_batch_size 0, so that shapes carry no batch dimension; leave it out."
        } else {
            ""
        };
        Self::UnexpectedShape {
            model: model.to_owned(),
            input: spec.name.clone(),
            expected: dims(&signature.metadata_shape(spec)),
            actual: dims(actual),
            hint: hint.to_owned(),
        }
    }
}

fn names(specs: &[TensorSpec]) -> impl Iterator<Item = &str> {
    specs.iter().map(|spec| spec.name.as_str())
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    list(names.map(|name| format!("'{name}'")))
}

fn dims(dims: &[i64]) -> String {
    list(dims.iter().map(i64::to_string))
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (index, item) in items.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}{item}").expect("a String takes any text");
    }
    text.push(']');
    text
}
