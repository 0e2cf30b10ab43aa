//! Identity models, one for each datatype of the protocol.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// The datatypes: on the wire, and in `config.pbtxt`.
const DATATYPES: [(&str, &str); 14] = [
    ("bool", "TYPE_BOOL"),
    ("uint8", "TYPE_UINT8"),
    ("uint16", "TYPE_UINT16"),
    ("uint32", "TYPE_UINT32"),
    ("uint64", "TYPE_UINT64"),
    ("int8", "TYPE_INT8"),
    ("int16", "TYPE_INT16"),
    ("int32", "TYPE_INT32"),
    ("int64", "TYPE_INT64"),
    ("fp16", "TYPE_FP16"),
    ("fp32", "TYPE_FP32"),
    ("fp64", "TYPE_FP64"),
    ("bf16", "TYPE_BF16"),
    ("bytes", "TYPE_STRING"),
];

/// Writes `identity_<datatype>` for every datatype into the repository `models`.
pub(super) fn write_identities(models: &Path) -> Result<()> {
    for (name, data_type) in DATATYPES {
        let folder = models.join(format!("identity_{name}"));
        fs::create_dir_all(folder.join("1"))
            .and_then(|()| fs::write(folder.join("config.pbtxt"), config(name, data_type)))
            .with_context(|| format!("write {}", folder.display()))?;
    }
    Ok(())
}

fn config(name: &str, data_type: &str) -> String {
    format!(
        "name: \"identity_{name}\"\n\
         backend: \"identity\"\n\
         max_batch_size: 0\n\
         input [ {{ name: \"INPUT0\" data_type: {data_type} dims: [ -1, -1 ] }} ]\n\
         output [ {{ name: \"OUTPUT0\" data_type: {data_type} dims: [ -1, -1 ] }} ]\n"
    )
}
