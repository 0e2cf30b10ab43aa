//! The requests of a warm-up: read from the model's configuration, or made up.

use std::fs;

use bytes::Bytes;
use forebay_proto::{DataType, Shape, Tensor};

use crate::{
    model::sample::{self, Values},
    repository::{WarmupData, WarmupInput, WarmupSample},
    signature::TensorSpec,
};

/// The data of one item, in the order of the signature and in the shapes that the model sees.
pub(super) struct Item(Vec<Option<(Vec<i64>, Bytes)>>);

impl Item {
    pub(super) fn read(sample: &WarmupSample, specs: &[TensorSpec]) -> Result<Self, String> {
        let input = |(input, spec): (&Option<WarmupInput>, &TensorSpec)| match input {
            Some(input) => Ok(Some((spec.for_model(&input.dims), data(input, spec)?))),
            None => Ok(None),
        };
        let inputs = sample.inputs.iter().zip(specs).map(input);
        Ok(Self(inputs.collect::<Result<_, String>>()?))
    }

    pub(super) fn made_up(specs: &[TensorSpec]) -> Result<Self, String> {
        let input = |spec: &TensorSpec| {
            let dims = sample::dims(spec);
            let data = sample::elements_of(spec.datatype, elements(&dims)?, Values::Mixed);
            Ok(Some((dims, data.into())))
        };
        Ok(Self(
            specs.iter().map(input).collect::<Result<_, String>>()?,
        ))
    }

    /// Makes the tensors of `rows` such items, or of one without a batch dimension.
    pub(super) fn tensors(
        &self,
        specs: &[TensorSpec],
        rows: Option<usize>,
    ) -> Result<Vec<Option<Tensor>>, String> {
        let tensor = |(item, spec): (&Option<(Vec<i64>, Bytes)>, &TensorSpec)| {
            let Some((dims, data)) = item else {
                return Ok(None);
            };
            let batch = rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
            let dims = batch.into_iter().chain(dims.iter().copied()).collect();
            let shape = Shape::new(dims).map_err(|error| error.to_string())?;
            // Memory of its own: a model may write to its inputs.
            let data: Bytes = data.repeat(rows.unwrap_or(1)).into();
            let tensor = Tensor::new(spec.name.clone(), spec.datatype, shape, data);
            tensor.map(Some).map_err(|error| error.to_string())
        };
        self.0.iter().zip(specs).map(tensor).collect()
    }
}

fn data(input: &WarmupInput, spec: &TensorSpec) -> Result<Bytes, String> {
    let count = elements(&input.dims)?;
    let values = match &input.data {
        WarmupData::Zeros => Values::Zeros,
        WarmupData::Random => Values::Random,
        WarmupData::File(file) => {
            let named = file.file_name().unwrap_or_default().to_string_lossy();
            let mut bytes = fs::read(file).map_err(|error| format!("{named}: {error}"))?;
            if spec.datatype != DataType::Bytes {
                bytes.truncate(count.saturating_mul(spec.datatype.size().unwrap_or(1)));
            }
            return Ok(bytes.into());
        }
    };
    Ok(sample::elements_of(spec.datatype, count, values).into())
}

fn elements(dims: &[i64]) -> Result<usize, String> {
    let shape = Shape::new(dims.to_vec()).map_err(|error| error.to_string())?;
    usize::try_from(shape.elements()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pass_has_memory_of_its_own() {
        let spec = TensorSpec {
            name: "x".to_owned(),
            datatype: DataType::Fp32,
            dims: vec![4],
            reshape: None,
            optional: false,
        };
        let item = Item::made_up(std::slice::from_ref(&spec)).unwrap();
        for rows in [None, Some(1), Some(3)] {
            let tensors = [(); 2].map(|()| item.tensors(std::slice::from_ref(&spec), rows));
            let at = tensors.map(|tensors| tensors.unwrap()[0].as_ref().unwrap().data().clone());
            assert_ne!(at[0].as_ptr(), at[1].as_ptr(), "{rows:?}");
        }
    }

    #[test]
    fn an_item_has_the_shape_that_the_model_sees() {
        let spec = TensorSpec {
            name: "x".to_owned(),
            datatype: DataType::Fp32,
            dims: vec![2, -1, 3],
            reshape: Some(vec![1, 2, -1, 3]),
            optional: false,
        };
        let sample = WarmupSample {
            name: "s".to_owned(),
            rows: 4,
            count: 1,
            inputs: vec![Some(WarmupInput {
                dims: vec![2, 5, 3],
                data: WarmupData::Zeros,
            })],
        };
        let specs = std::slice::from_ref(&spec);
        for (item, dims) in [
            (Item::made_up(specs), [4, 1, 2, 2, 3]),
            (Item::read(&sample, specs), [4, 1, 2, 5, 3]),
        ] {
            let tensors = item.unwrap().tensors(specs, Some(4)).unwrap();
            assert_eq!(tensors[0].as_ref().unwrap().shape().dims(), dims);
        }
    }
}
