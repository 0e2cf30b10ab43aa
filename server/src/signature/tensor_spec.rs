//! One input or output of a model.

use forebay_proto::DataType;

/// What one tensor of a model looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, distinct among a model's inputs or outputs.
    pub name: String,
    /// The element type.
    pub datatype: DataType,
    /// The shape of one item, without the batch dimension; -1 is a dimension of any size.
    pub dims: Vec<i64>,
    /// Whether a request may leave the input out; outputs are never optional.
    pub optional: bool,
}

impl TensorSpec {
    /// Returns whether an item of shape `dims` fits.
    pub(crate) fn fits(&self, dims: &[i64]) -> bool {
        self.dims.len() == dims.len()
            && self
                .dims
                .iter()
                .zip(dims)
                .all(|(&expected, &actual)| expected == -1 || expected == actual)
    }
}
