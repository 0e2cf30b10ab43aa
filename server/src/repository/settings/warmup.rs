//! What a model runs before it is ready, from `model_warmup`, as Triton reads it.
//!
//! Invariant: every required input has data of a known shape, and a file lies in the model's own
//! folder `warmup/` and holds at least one item.

use std::path::{Component, Path, PathBuf};

use forebay_proto::{
    DataType, Shape,
    inference::{ModelWarmup, model_warmup::Input, model_warmup::input::InputDataType},
};

use crate::{
    repository::{confined, faults::Faults},
    signature::{Signature, TensorSpec},
};

/// The folder of a model that its files of data lie in.
const FOLDER: &str = "warmup";

/// Most passes of one sample. More is a slip of the pen: a start is to be quick.
const MAX_COUNT: u32 = 10_000;

/// A batch that is run before the model is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmupSample {
    /// What the log calls it: its place in the list where it has no name.
    pub name: String,
    /// Items in it; at least 1.
    pub rows: usize,
    /// How often it is run on each instance; at least 1.
    pub count: u32,
    /// The data of one item, in the order of the signature; `None` for an optional input that is
    /// left out.
    pub inputs: Vec<Option<WarmupInput>>,
}

/// An input of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmupInput {
    /// The shape of one item, without open dimensions.
    pub dims: Vec<i64>,
    /// Its elements.
    pub data: WarmupData,
}

/// Where the elements of an input come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarmupData {
    /// Zeros, or empty texts.
    Zeros,
    /// Random numbers from 0 to 1, or empty texts.
    Random,
    /// The bytes of a file, in the form in which they travel.
    File(PathBuf),
}

/// Reads the samples; one that has a fault may be absent from the result.
pub(super) fn read(
    warmups: &[ModelWarmup],
    signature: &Signature,
    faults: &mut Faults,
) -> Vec<WarmupSample> {
    let mut samples = Vec::new();
    for (index, warmup) in warmups.iter().enumerate() {
        let field = format!("model_warmup[{index}]");
        // As in Triton, where this is the way to switch a sample off.
        if warmup.batch_size == 0 {
            faults.ignored(true, format_args!("{field} with batch_size: 0"));
            continue;
        }
        let name = match warmup.name.as_str() {
            "" => index.to_string(),
            name => name.to_owned(),
        };
        check_numbers(&field, warmup, signature, faults);
        samples.push(WarmupSample {
            name,
            rows: usize::try_from(warmup.batch_size).unwrap_or(usize::MAX),
            count: warmup.count.max(1),
            inputs: inputs(&field, warmup, signature, faults),
        });
    }
    samples
}

fn check_numbers(field: &str, warmup: &ModelWarmup, signature: &Signature, faults: &mut Faults) {
    let rows = usize::try_from(warmup.batch_size).unwrap_or(usize::MAX);
    let most = signature.max_batch_size.max(1);
    if rows > most {
        let mend = if signature.is_batching() {
            format!("use at most {most}")
        } else {
            "use 1, since the model has no batch dimension".to_owned()
        };
        let problem = format!("{rows} is more than the model takes");
        faults.wrong(format_args!("{field}.batch_size"), problem, mend);
    }
    if warmup.count > MAX_COUNT {
        faults.wrong(
            format_args!("{field}.count"),
            format_args!("{} passes", warmup.count),
            format_args!("use at most {MAX_COUNT}"),
        );
    }
}

fn inputs(
    field: &str,
    warmup: &ModelWarmup,
    signature: &Signature,
    faults: &mut Faults,
) -> Vec<Option<WarmupInput>> {
    let mut names: Vec<&String> = warmup.inputs.keys().collect();
    names.sort_unstable();
    for name in names {
        if signature.input(name).is_none() {
            faults.wrong(
                format_args!("{field}.inputs['{name}']"),
                "the model has no such input",
                "use the names of the list input",
            );
        }
    }
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let field = format!("{field}.inputs['{}']", spec.name);
        match warmup.inputs.get(&spec.name) {
            Some(input) => inputs.push(read_input(&field, input, spec, faults)),
            None if spec.optional => inputs.push(None),
            None => faults.wrong(field, "missing", "add data for every input"),
        }
    }
    inputs
}

fn read_input(
    field: &str,
    input: &Input,
    spec: &TensorSpec,
    faults: &mut Faults,
) -> Option<WarmupInput> {
    if DataType::from_config(input.data_type()) != Some(spec.datatype) {
        faults.wrong(
            format_args!("{field}.data_type"),
            format_args!("{} is not the input's", input.data_type().as_str_name()),
            format_args!("use that of {}", spec.datatype),
        );
    }
    if !spec.fits(&input.dims) || input.dims.iter().any(|&dim| dim < 1) {
        faults.wrong(
            format_args!("{field}.dims"),
            format_args!("{:?} is no shape of the input", input.dims),
            format_args!("give sizes from 1 that fit {:?}", spec.dims),
        );
    } else if Shape::new(input.dims.clone()).is_err() {
        let mend = "use smaller sizes";
        faults.wrong(format_args!("{field}.dims"), "too large", mend);
    }
    let data = match &input.input_data_type {
        Some(InputDataType::ZeroData(_)) => WarmupData::Zeros,
        Some(InputDataType::RandomData(_)) => WarmupData::Random,
        Some(InputDataType::InputDataFile(file)) => {
            let mut parts = Path::new(file).components();
            if file.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
                faults.wrong(
                    format_args!("{field}.input_data_file"),
                    format_args!("{file:?} is not the name of a file"),
                    format_args!("name a file in the model's own folder {FOLDER}/"),
                );
            }
            WarmupData::File(file.into())
        }
        None => {
            let mend = "set zero_data, random_data or input_data_file";
            faults.wrong(field, "no data", mend);
            return None;
        }
    };
    Some(WarmupInput {
        dims: input.dims.clone(),
        data,
    })
}

/// Finds the files of `samples` in the model's folder `dir`, and makes their paths whole.
///
/// # Errors
/// All that is wrong with them.
pub(in crate::repository) fn find_files(
    samples: &mut [WarmupSample],
    signature: &Signature,
    dir: &Path,
) -> Result<(), Vec<String>> {
    let mut faults = Vec::new();
    for sample in samples {
        for (input, spec) in sample.inputs.iter_mut().zip(&signature.inputs) {
            let Some(input) = input else { continue };
            let WarmupData::File(file) = &mut input.data else {
                continue;
            };
            match find_file(file, &input.dims, spec, dir) {
                Ok(found) => *file = found,
                Err(fault) => {
                    let shown = file.display();
                    faults.push(format!(
                        "model_warmup '{}': {FOLDER}/{shown}: {fault}",
                        sample.name
                    ));
                }
            }
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

fn find_file(file: &Path, dims: &[i64], spec: &TensorSpec, dir: &Path) -> Result<PathBuf, String> {
    let (path, opened) = confined::open(dir, &dir.join(FOLDER).join(file))?;
    let has = opened.metadata().map_or(0, |metadata| metadata.len());
    let shape = Shape::new(dims.to_vec()).map_err(|error| format!("{error}; mend dims"))?;
    match shape.byte_size(spec.datatype) {
        Ok(Some(needs)) if has < needs => Err(format!(
            "holds {has} bytes of the {needs} that one item of '{}' has; write all of them",
            spec.name
        )),
        _ => Ok(path),
    }
}
