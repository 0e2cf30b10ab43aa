//! What the server tells about itself and its models, in the protocol's messages.

use forebay_proto::inference::{
    ForebayDeviceStatistics, ForebayWeightsStatistics, ModelMetadataResponse,
    ServerMetadataResponse, model_metadata_response::TensorMetadata,
};

use crate::{device::AnyDevice, registry::Served, residency::Usage, signature::TensorSpec};

/// The extensions of the protocol that this server has. What is not here answers UNIMPLEMENTED.
const EXTENSIONS: [&str; 5] = [
    "binary_tensor_data",
    "model_configuration",
    "parameters",
    "sequence",
    "statistics",
];

pub(super) fn server() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "forebay".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

pub(super) fn model(served: &Served, versions: &[u64]) -> ModelMetadataResponse {
    let signature = &served.settings.signature;
    let tensors = |specs: &[TensorSpec]| {
        let tensor = |spec: &TensorSpec| TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.datatype.name().to_owned(),
            shape: signature.metadata_shape(spec),
        };
        specs.iter().map(tensor).collect()
    };
    ModelMetadataResponse {
        name: served.name.clone(),
        versions: versions.iter().map(u64::to_string).collect(),
        platform: served.settings.config.platform.clone(),
        inputs: tensors(&signature.inputs),
        outputs: tensors(&signature.outputs),
        ..ModelMetadataResponse::default()
    }
}

pub(super) fn weights(usage: Usage) -> ForebayWeightsStatistics {
    ForebayWeightsStatistics {
        budget_bytes: usage.budget,
        resident_bytes: usage.bytes,
        peak_bytes: usage.peak,
    }
}

/// Asks devices how they are doing, on a thread that may wait for their driver.
pub(super) async fn devices(devices: Vec<AnyDevice>) -> Vec<ForebayDeviceStatistics> {
    let ask = move || {
        let reports = devices.iter().map(AnyDevice::report);
        reports.map(ForebayDeviceStatistics::from).collect()
    };
    // It panics only if a library below does; the rest of the statistics is told all the same.
    tokio::task::spawn_blocking(ask).await.unwrap_or_default()
}
