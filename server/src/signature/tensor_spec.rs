//! One input or output of a model.

use forebay_proto::{DataType, ProtocolError, Shape, Tensor};

/// What one tensor of a model looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, distinct among a model's inputs or outputs.
    pub name: String,
    /// The element type.
    pub datatype: DataType,
    /// The shape of one item as clients see it, without the batch dimension; -1 is a dimension of
    /// any size.
    pub dims: Vec<i64>,
    /// The same as the model sees it, where that differs: as many elements, also before, between and
    /// behind the dimensions of any size.
    pub reshape: Option<Vec<i64>>,
    /// Whether a request may leave the input out; outputs are never optional.
    pub optional: bool,
}

impl TensorSpec {
    /// Returns the shape of one item as the model sees it.
    pub fn model_dims(&self) -> &[i64] {
        self.reshape.as_deref().unwrap_or(&self.dims)
    }

    /// Returns whether an item of shape `dims` is what clients are to send or see.
    pub(crate) fn fits(&self, dims: &[i64]) -> bool {
        fits(&self.dims, dims)
    }

    /// Returns the shape in which the model sees an item of shape `dims`, which fits.
    pub(crate) fn for_model(&self, dims: &[i64]) -> Vec<i64> {
        match &self.reshape {
            Some(reshape) => rewritten(&self.dims, dims, reshape),
            None => dims.to_vec(),
        }
    }

    /// Returns the shape in which clients see an item that the model gave in shape `dims`, or `None`
    /// where the configuration has the model give another.
    pub(crate) fn for_clients(&self, dims: &[i64]) -> Option<Vec<i64>> {
        let reshape = self.model_dims();
        fits(reshape, dims).then(|| rewritten(reshape, dims, &self.dims))
    }

    /// Gives a tensor, which fits, the shape in which the model sees it. No element moves.
    pub(super) fn reshaped(&self, tensor: Tensor, batching: bool) -> Result<Tensor, ProtocolError> {
        let (name, datatype, shape, data) = tensor.into_parts();
        let parts = shape.dims().split_at_checked(usize::from(batching));
        let (batch, item) = parts.unwrap_or_default();
        let shape = Shape::new([batch, &self.for_model(item)[..]].concat())?;
        Tensor::new(name, datatype, shape, data)
    }
}

fn fits(expected: &[i64], actual: &[i64]) -> bool {
    expected.len() == actual.len()
        && expected
            .iter()
            .zip(actual)
            .all(|(&expected, &actual)| expected == -1 || expected == actual)
}

/// Returns `to` with the sizes that `dims` has in the open dimensions of `from`, in order.
fn rewritten(from: &[i64], dims: &[i64], to: &[i64]) -> Vec<i64> {
    let mut sizes = from
        .iter()
        .zip(dims)
        .filter_map(|(&expected, &size)| (expected == -1).then_some(size));
    let filled = |&dim: &i64| match dim {
        -1 => sizes.next().unwrap_or(dim),
        size => size,
    };
    to.iter().map(filled).collect()
}
