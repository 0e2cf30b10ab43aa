//! What a server tells of itself and of its models.

use std::time::Duration;

use forebay_proto::{
    DataType,
    inference::{
        InferStatistics, ModelMetadataResponse, ServerMetadataResponse, StatisticDuration,
        model_metadata_response, repository_index_response,
    },
};

use crate::error::CallError;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerMetadata {
    /// The server's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The protocol's extensions that it has.
    pub extensions: Vec<String>,
}

/// A model's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelMetadata {
    /// The model.
    pub name: String,
    /// The versions that can be asked, in decimal.
    pub versions: Vec<String>,
    /// What executes it.
    pub platform: String,
    /// The inputs it needs.
    pub inputs: Vec<TensorMetadata>,
    /// The outputs it makes.
    pub outputs: Vec<TensorMetadata>,
}

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMetadata {
    /// The tensor.
    pub name: String,
    /// Its element type.
    pub datatype: DataType,
    /// Its dimensions, with the batch first where the model batches; -1 is any size.
    pub shape: Vec<i64>,
}

/// What a version of a model has done since it was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelStatistics {
    /// The model.
    pub name: String,
    /// The version, in decimal.
    pub version: String,
    /// Inferences, where a batch of eight counts as eight.
    pub inference_count: u64,
    /// Executions, where a batch of eight counts as one.
    pub execution_count: u64,
    /// Requests that were answered.
    pub success: DurationTotal,
    /// Requests that failed.
    pub fail: DurationTotal,
    /// Time in the queue.
    pub queue: DurationTotal,
    /// Time to bring inputs to the device.
    pub compute_input: DurationTotal,
    /// Time in the model.
    pub compute_infer: DurationTotal,
    /// Time to bring outputs back.
    pub compute_output: DurationTotal,
}

/// How often something happened and how long it took in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DurationTotal {
    /// How often.
    pub count: u64,
    /// How long in all.
    pub total: Duration,
}

/// An entry of the model repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelIndex {
    /// The model.
    pub name: String,
    /// The version, in decimal.
    pub version: String,
    /// Its state, such as `READY`.
    pub state: String,
    /// Why it is in that state, where there is something to say.
    pub reason: String,
}

impl From<ServerMetadataResponse> for ServerMetadata {
    fn from(response: ServerMetadataResponse) -> Self {
        Self {
            name: response.name,
            version: response.version,
            extensions: response.extensions,
        }
    }
}

impl TryFrom<ModelMetadataResponse> for ModelMetadata {
    type Error = CallError;

    fn try_from(response: ModelMetadataResponse) -> Result<Self, CallError> {
        let tensors = |tensors: Vec<model_metadata_response::TensorMetadata>| {
            let tensors = tensors.into_iter().map(TensorMetadata::try_from);
            tensors.collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            name: response.name,
            versions: response.versions,
            platform: response.platform,
            inputs: tensors(response.inputs)?,
            outputs: tensors(response.outputs)?,
        })
    }
}

impl TryFrom<model_metadata_response::TensorMetadata> for TensorMetadata {
    type Error = CallError;

    fn try_from(tensor: model_metadata_response::TensorMetadata) -> Result<Self, CallError> {
        match tensor.datatype.parse() {
            Ok(datatype) => Ok(Self {
                name: tensor.name,
                datatype,
                shape: tensor.shape,
            }),
            Err(_) => Err(CallError::UnknownDatatype {
                call: "ModelMetadata",
                tensor: tensor.name,
                datatype: tensor.datatype,
            }),
        }
    }
}

impl From<forebay_proto::inference::ModelStatistics> for ModelStatistics {
    fn from(statistics: forebay_proto::inference::ModelStatistics) -> Self {
        let InferStatistics {
            success,
            fail,
            queue,
            compute_input,
            compute_infer,
            compute_output,
            ..
        } = statistics.inference_stats.unwrap_or_default();
        Self {
            name: statistics.name,
            version: statistics.version,
            inference_count: statistics.inference_count,
            execution_count: statistics.execution_count,
            success: success.into(),
            fail: fail.into(),
            queue: queue.into(),
            compute_input: compute_input.into(),
            compute_infer: compute_infer.into(),
            compute_output: compute_output.into(),
        }
    }
}

impl From<Option<StatisticDuration>> for DurationTotal {
    fn from(duration: Option<StatisticDuration>) -> Self {
        let StatisticDuration { count, ns } = duration.unwrap_or_default();
        Self {
            count,
            total: Duration::from_nanos(ns),
        }
    }
}

impl From<repository_index_response::ModelIndex> for ModelIndex {
    fn from(index: repository_index_response::ModelIndex) -> Self {
        Self {
            name: index.name,
            version: index.version,
            state: index.state,
            reason: index.reason,
        }
    }
}
