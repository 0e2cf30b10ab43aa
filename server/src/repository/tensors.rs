//! Reads the `input` and `output` lists of a configuration.

use std::collections::HashSet;

use forebay_proto::{
    DataType,
    inference::{self, ModelInput, ModelOutput, model_input::Format},
    limits::{MAX_DIMS, MAX_NAME_BYTES},
};

use super::faults::Faults;
use crate::signature::TensorSpec;

/// Reads the inputs; one that has a fault may be absent from the result.
pub(super) fn inputs(inputs: &[ModelInput], faults: &mut Faults) -> Vec<TensorSpec> {
    let mut list = List::new("input", inputs.len(), faults);
    for input in inputs {
        let field = list.push(&input.name, input.data_type(), &input.dims, input.optional);
        let faults = &mut *list.faults;
        refuse_layout(
            &field,
            input.reshape.is_some(),
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
        let field = list.push(&output.name, output.data_type(), &output.dims, false);
        let faults = &mut *list.faults;
        refuse_layout(
            &field,
            output.reshape.is_some(),
            output.is_shape_tensor,
            output.is_non_linear_format_io,
            faults,
        );
        let labelled = !output.label_filename.is_empty();
        faults.ignored(labelled, format_args!("{field}.label_filename"));
    }
    list.specs
}

fn refuse_layout(field: &str, reshape: bool, shape: bool, non_linear: bool, faults: &mut Faults) {
    for (set, name, mend) in [
        (
            reshape,
            "reshape",
            "remove it and put the shape that the model itself sees in dims",
        ),
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
    fn push(
        &mut self,
        name: &str,
        datatype: inference::DataType,
        dims: &[i64],
        optional: bool,
    ) -> String {
        let kind = self.kind;
        let field = format!("{kind}[{}]", self.read);
        self.read += 1;
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
        let datatype = DataType::from_config(datatype);
        if datatype.is_none() {
            self.faults.wrong(
                format_args!("{field}.data_type"),
                "missing or TYPE_INVALID",
                "name the element type, such as TYPE_FP32",
            );
        }
        self.check_dims(&field, dims);
        if let Some(datatype) = datatype {
            self.specs.push(TensorSpec {
                name: name.to_owned(),
                datatype,
                dims: dims.to_vec(),
                optional,
            });
        }
        field
    }

    fn check_dims(&mut self, field: &str, dims: &[i64]) {
        if dims.is_empty() {
            self.faults.wrong(
                format_args!("{field}.dims"),
                "missing",
                "give the shape of one item without the batch dimension, such as dims: [ 1 ]",
            );
        }
        // One more dimension is left for the batch.
        if dims.len() >= MAX_DIMS {
            self.faults.wrong(
                format_args!("{field}.dims"),
                format_args!("{} dimensions", dims.len()),
                format_args!("use at most {}", MAX_DIMS - 1),
            );
        }
        if let Some((index, dim)) = dims
            .iter()
            .enumerate()
            .find(|&(_, &dim)| dim == 0 || dim < -1)
        {
            self.faults.wrong(
                format_args!("{field}.dims[{index}]"),
                format_args!("{dim} is no size"),
                "use a size from 1, or -1 for any",
            );
        }
    }
}
