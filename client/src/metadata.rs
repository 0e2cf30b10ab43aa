//! What a server tells of itself and of its models.

use forebay_proto::{
    DataType,
    inference::{
        self, ModelMetadataResponse, ServerMetadataResponse, model_metadata_response,
        repository_index_response,
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

/// What a model's configuration says that concerns its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The model.
    pub name: String,
    /// Rows of a request at most; 0 where inputs have no batch dimension.
    pub max_batch_size: u32,
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

impl From<inference::ModelConfig> for ModelConfig {
    fn from(config: inference::ModelConfig) -> Self {
        Self {
            name: config.name,
            max_batch_size: config.max_batch_size.try_into().unwrap_or_default(),
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
