//! Reads the `input` and `output` lists of a configuration.

use std::collections::HashSet;

use forebay_proto::{
    DataType,
    inference::{self, ModelInput, ModelOutput, ModelTensorReshape, model_input::Format},
    limits::{MAX_DIMS, MAX_NAME_BYTES},
};

use super::faults::Faults;
use crate::signature::TensorSpec;

/// Reads the inputs; one that has a fault may be absent from the result.
pub(super) fn inputs(inputs: &[ModelInput], faults: &mut Faults) -> Vec<TensorSpec> {
    let mut list = List::new("input", inputs.len(), faults);
    for input in inputs {
        let field = list.push(Declared {
            name: &input.name,
            datatype: input.data_type(),
            dims: &input.dims,
            reshape: input.reshape.as_ref(),
            optional: input.optional,
        });
        let faults = &mut *list.faults;
        refuse_layout(
            &field,
            input.is_shape_tensor,
            input.is_non_linear_format_io,
            faults,
        );
        faults.unsupported(
            input.allow_ragged_batch,
            format_args!("{field}.allow_ragged_batch"),
            "remove it; requests of one batch need equal shapes",
        );
        let formatted = input.format() != Format::None;
        faults.ignored(formatted, format_args!("{field}.format"));
    }
    list.specs
}

/// Reads the outputs; one that has a fault may be absent from the result.
pub(super) fn outputs(outputs: &[ModelOutput], faults: &mut Faults) -> Vec<TensorSpec> {
    let mut list = List::new("output", outputs.len(), faults);
    for output in outputs {
        let field = list.push(Declared {
            name: &output.name,
            datatype: output.data_type(),
            dims: &output.dims,
            reshape: output.reshape.as_ref(),
            optional: false,
        });
        let faults = &mut *list.faults;
        refuse_layout(
            &field,
            output.is_shape_tensor,
            output.is_non_linear_format_io,
            faults,
        );
        let labelled = !output.label_filename.is_empty();
        faults.ignored(labelled, format_args!("{field}.label_filename"));
    }
    list.specs
}

fn refuse_layout(field: &str, shape: bool, non_linear: bool, faults: &mut Faults) {
    for (set, name, mend) in [
        (
            shape,
            "is_shape_tensor",
            "remove it; only TensorRT engines have shape tensors",
        ),
        (
            non_linear,
            "is_non_linear_format_io",
            "remove it; only TensorRT engines have other layouts",
        ),
    ] {
        faults.unsupported(set, format_args!("{field}.{name}"), mend);
    }
}

/// A tensor as it is written.
struct Declared<'a> {
    name: &'a str,
    datatype: inference::DataType,
    dims: &'a [i64],
    reshape: Option<&'a ModelTensorReshape>,
    optional: bool,
}

/// The tensors read so far of one list.
struct List<'a> {
    kind: &'static str,
    read: usize,
    names: HashSet<String>,
    specs: Vec<TensorSpec>,
    faults: &'a mut Faults,
}

impl<'a> List<'a> {
    fn new(kind: &'static str, count: usize, faults: &'a mut Faults) -> Self {
        if count == 0 {
            faults.wrong(
                kind,
                format_args!("the model has no {kind}"),
                format_args!("add {kind} [ {{ name: \"..\" data_type: TYPE_FP32 dims: [ .. ] }} ]"),
            );
        }
        Self {
            kind,
            read: 0,
            names: HashSet::new(),
            specs: Vec::with_capacity(count),
            faults,
        }
    }

    /// Reads one more tensor and returns the path of its field.
    fn push(&mut self, tensor: Declared<'_>) -> String {
        let field = format!("{}[{}]", self.kind, self.read);
        self.read += 1;
        self.check_name(&field, tensor.name);
        let datatype = DataType::from_config(tensor.datatype);
        if datatype.is_none() {
            self.faults.wrong(
                format_args!("{field}.data_type"),
                "missing or TYPE_INVALID",
                "name the element type, such as TYPE_FP32",
            );
        }
        let reshape = tensor.reshape.map(|reshape| &reshape.shape[..]);
        let has_dims = self.check_dims(&field, tensor.dims);
        if let Some(reshape) = reshape.filter(|_| has_dims) {
            self.check_reshape(&field, tensor.dims, reshape);
        }
        if let Some(datatype) = datatype {
            self.specs.push(TensorSpec {
                name: tensor.name.to_owned(),
                datatype,
                dims: tensor.dims.to_vec(),
                reshape: reshape.map(<[i64]>::to_vec),
                optional: tensor.optional,
            });
        }
        field
    }

    fn check_name(&mut self, field: &str, name: &str) {
        let kind = self.kind;
        if name.is_empty() {
            let mend = "give it the name that clients send";
            self.faults
                .wrong(format_args!("{field}.name"), "missing", mend);
        } else if name.len() > MAX_NAME_BYTES {
            self.faults.wrong(
                format_args!("{field}.name"),
                format_args!("{} bytes long", name.len()),
                format_args!("use at most {MAX_NAME_BYTES}"),
            );
        } else if !self.names.insert(name.to_owned()) {
            self.faults.wrong(
                format_args!("{field}.name"),
                format_args!("another {kind} is named '{name}' too"),
                "give each its own name",
            );
        }
    }

    /// Returns whether `dims` is the shape of an item.
    fn check_dims(&mut self, field: &str, dims: &[i64]) -> bool {
        if dims.is_empty() {
            self.faults.wrong(
                format_args!("{field}.dims"),
                "missing",
                "give the shape of one item without the batch dimension, such as dims: [ 1 ]",
            );
            return false;
        }
        self.check_sizes(&format!("{field}.dims"), dims)
    }

    /// Holds the shape that the model sees of an item against the one that clients see.
    fn check_reshape(&mut self, field: &str, dims: &[i64], reshape: &[i64]) {
        let field = format!("{field}.reshape.shape");
        if !self.check_sizes(&field, reshape) {
            return;
        }
        match (counts(dims), counts(reshape)) {
            (Some(dims), Some(reshape)) if dims == reshape => {}
            (Some(of_dims), Some(of_reshape)) if of_dims.len() != of_reshape.len() => {
                self.faults.wrong(
                    field,
                    format_args!("{reshape:?} has not as many -1 as dims, {dims:?}"),
                    "write -1 for the same dimensions of both, in the same order",
                );
            }
            _ => self.faults.wrong(
                field,
                format_args!("{reshape:?} has another number of elements than dims, {dims:?}"),
                "use sizes with the same product, also before, between and behind each -1",
            ),
        }
    }

    /// Returns whether `sizes` are those of a tensor's dimensions, but for the batch.
    fn check_sizes(&mut self, field: &str, sizes: &[i64]) -> bool {
        // One more dimension is left for the batch.
        let fits = sizes.len() < MAX_DIMS;
        if !fits {
            self.faults.wrong(
                field,
                format_args!("{} dimensions", sizes.len()),
                format_args!("use at most {}", MAX_DIMS - 1),
            );
        }
        let mut numbered = sizes.iter().enumerate();
        let wrong = numbered.find(|&(_, &size)| size == 0 || size < -1);
        if let Some((index, size)) = wrong {
            self.faults.wrong(
                format_args!("{field}[{index}]"),
                format_args!("{size} is no size"),
                "use a size from 1, or -1 for any",
            );
        }
        fits && wrong.is_none()
    }
}

/// Returns how many elements there are before, between and behind the open dimensions, or `None`
/// where they are more than 63 bits count.
fn counts(dims: &[i64]) -> Option<Vec<i64>> {
    let product = |sizes: &[i64]| {
        let mut sizes = sizes.iter();
        sizes.try_fold(1i64, |product, &size| product.checked_mul(size))
    };
    dims.split(|&dim| dim == -1).map(product).collect()
}
