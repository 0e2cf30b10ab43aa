//! One model's folder: its configuration, and the files of the versions that are served.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Backend, ModelSettings, Version, confined, name,
    pbtxt::Schema,
    settings::{backend, warmup},
    versions::{VersionPolicy, parse_number},
};

/// Largest `config.pbtxt`, in bytes. Real ones have a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What a scan finds of one model.
pub type ScannedModel = Result<ModelEntry, ModelFault>;

/// A model that can be loaded.
#[derive(Debug, Clone)]
pub struct ModelEntry {
    /// What its configuration says.
    pub settings: ModelSettings,
    /// Its folder.
    pub dir: PathBuf,
    /// The versions that are served, ascending; at least one.
    pub versions: Vec<Version>,
}

/// A model that cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model '{name}': {}", faults.join("; also: "))]
pub struct ModelFault {
    /// The name of its folder.
    pub name: String,
    /// All that is wrong, each with its mend; at least one. A fault may have several lines.
    pub faults: Vec<String>,
}

/// Reads the model `name` of the repository in `root`.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn read(root: &Path, schema: &Schema, name: &str) -> Result<ModelEntry, Vec<String>> {
    // Before the name becomes a path: it may come from a client.
    name::check(name).map_err(|fault| vec![format!("folder: {fault}; rename the folder")])?;
    let dir = confined::resolve(root, &root.join(name))
        .map_err(|fault| vec![format!("folder: {fault}")])?;
    if !dir.is_dir() {
        return Err(vec![
            "folder: a plain file; put the model in a folder of its name".to_owned(),
        ]);
    }
    let file = dir.join("config.pbtxt");
    let text = confined::read(root, &file, MAX_CONFIG_BYTES)
        .map_err(|fault| vec![format!("config.pbtxt: {fault}")])?;
    let mut config = schema
        .parse(&file, &text)
        .map_err(|fault| vec![fault.to_string()])?;
    backend::infer(&mut config, &dir);
    let mut settings = ModelSettings::new(name, config)?;
    // In the model's own folder, not in the repository: one model's data is not another's.
    warmup::find_files(&mut settings.warmup, &settings.signature, &dir)?;
    let versions = find_versions(root, &dir, &mut settings)?;
    Ok(ModelEntry {
        settings,
        dir,
        versions,
    })
}

fn find_versions(
    root: &Path,
    dir: &Path,
    settings: &mut ModelSettings,
) -> Result<Vec<Version>, Vec<String>> {
    let mut available = version_folders(dir, &mut settings.notes)?;
    // Nothing is to be put in an identity model's folder, and git keeps no empty ones.
    if available.is_empty() && settings.backend == Backend::Identity {
        return Ok(vec![Version {
            number: 1,
            file: dir.to_owned(),
        }]);
    }
    available.sort_unstable();
    let policy = &settings.version_policy;
    let picked = policy.pick(&available);
    if picked.is_empty() {
        let filename = settings.filename.as_deref().unwrap_or_default();
        return Err(vec![no_version(policy, &available, filename)]);
    }
    for version in policy.absent(&available) {
        settings.notes.push(format!(
            "version_policy.specific.versions: version {version} has no folder, the others are served"
        ));
    }
    let mut faults = Vec::new();
    let mut versions = Vec::with_capacity(picked.len());
    for number in picked {
        let folder = number.to_string();
        let found = match &settings.filename {
            Some(filename) => confined::open(root, &dir.join(&folder).join(filename))
                .map(|(file, _)| file)
                .map_err(|fault| format!("{folder}/{filename}: {fault}")),
            None => confined::resolve(root, &dir.join(&folder))
                .map_err(|fault| format!("{folder}: {fault}")),
        };
        match found {
            Ok(file) => versions.push(Version { number, file }),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        Ok(versions)
    } else {
        Err(faults)
    }
}

/// Lists the folders in `dir` that are versions, and notes those that were perhaps meant to be.
fn version_folders(dir: &Path, notes: &mut Vec<String>) -> Result<Vec<u64>, Vec<String>> {
    let unreadable = |error| {
        vec![format!(
            "folder: cannot be listed ({error}); make it readable"
        )]
    };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // A symlink to nothing stays in, so that it is reported if it is picked.
        if fs::metadata(entry.path()).is_ok_and(|metadata| !metadata.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        match parse_number(&name) {
            Some(number) => numbers.push(number),
            None if name.bytes().all(|byte| byte.is_ascii_digit()) => notes.push(format!(
                "{name}/: ignored, since versions are numbers from 1 without leading zeros"
            )),
            None => {}
        }
    }
    notes.sort_unstable();
    Ok(numbers)
}

fn no_version(policy: &VersionPolicy, available: &[u64], filename: &str) -> String {
    match policy {
        VersionPolicy::Specific(_) if !available.is_empty() => format!(
            "version_policy.specific.versions: none of them has a folder; list some of {available:?}, \
             or add the folders"
        ),
        _ => {
            format!("versions: there is no folder named by a number; put the model in 1/{filename}")
        }
    }
}
