//! What a package tells of itself: what it was compiled for, and, where our exporter made it, the
//! datatypes and shapes of its inputs.

use std::path::Path;

use serde::Deserialize;

use crate::{
    device::Location,
    model::{Error, shown},
    signature::Signature,
};

/// The metadata of a package.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    /// The kind of device.
    #[serde(rename = "AOTI_DEVICE_KEY")]
    device: String,
    #[serde(rename = "AOTI_PLATFORM", default)]
    platform: String,
    #[serde(rename = "AOTI_MACHINE", default)]
    machine: String,
    /// Extensions of the processor, parted by blanks.
    #[serde(rename = "AOTI_CPU_ISA", default)]
    extensions: String,
    /// What `docs/export/export_aoti.py` writes: [`Input`]s as JSON in a text.
    forebay_inputs: Option<String>,
    #[serde(skip)]
    inputs: Option<Vec<Input>>,
}

/// An input of a package.
#[derive(Debug, Deserialize)]
struct Input {
    datatype: String,
    /// The least and the greatest size of each dimension.
    dims: Vec<[i64; 2]>,
}

impl Metadata {
    /// Reads the package's JSON.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unreadable = |error| format!("its metadata is written in a way not known: {error}");
        let mut metadata: Self = serde_json::from_str(text).map_err(unreadable)?;
        if let Some(inputs) = &metadata.forebay_inputs {
            metadata.inputs = Some(serde_json::from_str(inputs).map_err(unreadable)?);
        }
        Ok(metadata)
    }

    /// Checks that this machine runs the package's code: a processor without an extension that the
    /// code uses would end the process.
    pub(super) fn check_processor(&self, file: &Path) -> Result<(), Error> {
        use std::env::consts::{ARCH, OS};
        let missing = self
            .extensions
            .split_whitespace()
            .find(|extension| !has_extension(extension));
        let other = |ours: &str, theirs: &str| !theirs.is_empty() && ours != theirs;
        let compiled = match missing {
            _ if other(OS, &self.platform) || other(ARCH, &self.machine) => {
                format!("{} on {}", self.platform, self.machine)
            }
            Some(extension) => format!("a processor with {extension}"),
            None => return Ok(()),
        };
        Err(Error::Elsewhere {
            file: shown(file),
            compiled,
            wanted: format!("this machine is {OS} on {ARCH} without that"),
            mend: "export it again on a machine like this one",
        })
    }

    /// Checks that the package was compiled for the kind of device that `location` is on.
    pub(super) fn check_location(&self, file: &Path, location: Location) -> Result<(), Error> {
        let (wanted, mend) = match (self.device.as_str(), location) {
            ("cpu", Location::Host) => return Ok(()),
            (device, Location::Accelerator(_)) if device != "cpu" => return Ok(()),
            (_, Location::Host) => (
                "is to run on the CPU",
                "write instance_group [ { kind: KIND_GPU } ] on a machine that has one, or export \
                 it again with --device cpu",
            ),
            (_, Location::Accelerator(_)) => (
                "is to run on an accelerator",
                "write instance_group [ { kind: KIND_CPU } ], or export it again with --device cuda",
            ),
        };
        Err(Error::Elsewhere {
            file: shown(file),
            compiled: format!("device '{}'", self.device),
            wanted: format!("it {wanted}"),
            mend,
        })
    }

    /// Holds the configuration against the package's inputs, `places` saying which of the
    /// configuration's each is. Returns whether the package tells of them.
    pub(super) fn check_inputs(
        &self,
        signature: &Signature,
        places: &[usize],
    ) -> Result<bool, Error> {
        let Some(inputs) = &self.inputs else {
            return Ok(false);
        };
        if inputs.len() != places.len() {
            return Err(Error::Mismatch(format!(
                "the package tells of {} inputs and takes {}; export it again",
                inputs.len(),
                places.len()
            )));
        }
        for (input, &place) in inputs.iter().zip(places) {
            input.check(signature, place)?;
        }
        Ok(true)
    }

    /// Checks the shape of a request's tensor for the package's input `place`.
    pub(super) fn check_shape(&self, place: usize, shape: &[i64]) -> Result<(), String> {
        match self.inputs.as_ref().and_then(|inputs| inputs.get(place)) {
            Some(input) if !input.takes(shape) => Err(format!(
                "has shape {shape:?}, but the package was compiled for {}",
                input.shape()
            )),
            _ => Ok(()),
        }
    }
}

impl Input {
    fn check(&self, signature: &Signature, place: usize) -> Result<(), Error> {
        let spec = &signature.inputs[place];
        if self.datatype != spec.datatype.name() {
            return Err(Error::Mismatch(format!(
                "input '{}' is {} in config.pbtxt, but {} in the package; change its data_type",
                spec.name, spec.datatype, self.datatype
            )));
        }
        let batch = i64::try_from(signature.max_batch_size).unwrap_or(i64::MAX);
        let batching = signature.is_batching();
        if batching && self.dims.first().is_some_and(|&[_, most]| most < batch) {
            return Err(Error::Mismatch(format!(
                "max_batch_size is {batch}, but the package takes batches of up to {}; lower it, or \
                 export the model again with --max-batch {batch}",
                self.dims[0][1]
            )));
        }
        let smallest = batching.then_some(1).into_iter();
        let shape: Vec<i64> = smallest.chain(spec.dims.iter().copied()).collect();
        let fits = self.dims.len() == shape.len()
            && shape.iter().zip(&self.dims).all(|(&size, &[least, most])| {
                // A request is held against an open dimension's bounds when it comes.
                (least..=most).contains(&size) || (size < 0 && least < most)
            });
        if fits {
            return Ok(());
        }
        Err(Error::Mismatch(format!(
            "input '{}' has the shape {shape:?} in config.pbtxt{}, but {} in the package; change its \
             dims, or its reshape, or max_batch_size",
            spec.name,
            if batching { " for a batch of one" } else { "" },
            self.shape(),
        )))
    }

    fn takes(&self, shape: &[i64]) -> bool {
        let within = |(size, &[least, most]): (&i64, &[i64; 2])| (least..=most).contains(size);
        self.dims.len() == shape.len() && shape.iter().zip(&self.dims).all(within)
    }

    fn shape(&self) -> String {
        let dims: Vec<String> = self
            .dims
            .iter()
            .map(|&[least, most]| {
                if least == most {
                    least.to_string()
                } else {
                    format!("{least} to {most}")
                }
            })
            .collect();
        format!("[{}]", dims.join(", "))
    }
}

/// Returns whether the processor has an extension, by the name that inductor gives it. One that is
/// not known here is taken for granted.
#[cfg(target_arch = "x86_64")]
fn has_extension(name: &str) -> bool {
    match name {
        "AVX2" => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        "AVX512" => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
        }
        "AVX512_VNNI" => is_x86_feature_detected!("avx512vnni"),
        _ => true,
    }
}

/// Returns true: inductor's names for other processors are not known here.
#[cfg(not(target_arch = "x86_64"))]
fn has_extension(_name: &str) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use forebay_proto::DataType;

    use super::*;
    use crate::signature::TensorSpec;

    fn metadata(more: &str) -> Metadata {
        Metadata::parse(&format!("{{\"AOTI_DEVICE_KEY\": \"cpu\"{more}}}")).unwrap()
    }

    fn described() -> Metadata {
        let inputs =
            r#"[{\"name\": \"x\", \"datatype\": \"FP32\", \"dims\": [[1, 16], [3, 3], [1, 9]]}]"#;
        metadata(&format!(", \"forebay_inputs\": \"{inputs}\""))
    }

    fn signature(datatype: DataType, max_batch_size: usize, dims: &[i64]) -> Signature {
        Signature {
            inputs: vec![TensorSpec {
                name: "x".to_owned(),
                datatype,
                dims: dims.to_vec(),
                reshape: None,
                optional: false,
            }],
            outputs: Vec::new(),
            max_batch_size,
        }
    }

    #[test]
    fn a_configuration_that_fits_is_taken() {
        for (batch, dims) in [
            (16, &[3, 9][..]),
            (1, &[3, 1]),
            (16, &[3, -1]),
            (0, &[16, 3, 9]),
        ] {
            let signature = signature(DataType::Fp32, batch, dims);
            assert!(
                described().check_inputs(&signature, &[0]).unwrap(),
                "{dims:?}"
            );
            assert!(!metadata("").check_inputs(&signature, &[0]).unwrap());
        }
    }

    #[test]
    fn a_configuration_that_does_not_fit_is_told_the_tensor_and_the_mend() {
        let refused = |datatype, batch, dims: &[i64], text: &str| {
            let signature = signature(datatype, batch, dims);
            let error = described().check_inputs(&signature, &[0]).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(text), "{error}");
        };
        refused(
            DataType::Fp64,
            16,
            &[3, 9],
            "'x' is FP64 in config.pbtxt, but FP32",
        );
        refused(DataType::Fp32, 17, &[3, 9], "up to 16; lower it");
        refused(DataType::Fp32, 16, &[4, 9], "'x' has the shape [1, 4, 9]");
        refused(
            DataType::Fp32,
            16,
            &[3],
            "[1 to 16, 3, 1 to 9] in the package",
        );
        refused(DataType::Fp32, 16, &[-1, 9], "'x' has the shape");
        refused(DataType::Fp32, 0, &[3, 9], "'x' has the shape [3, 9]");
    }

    #[test]
    fn a_request_outside_the_bounds_is_refused() {
        let described = described();
        described.check_shape(0, &[16, 3, 9]).unwrap();
        for shape in [&[17, 3, 9][..], &[0, 3, 9], &[16, 3, 10], &[16, 3]] {
            let text = described.check_shape(0, shape).unwrap_err();
            assert!(text.contains("compiled for [1 to 16, 3, 1 to 9]"), "{text}");
        }
    }

    #[test]
    fn a_package_runs_on_the_kind_of_device_that_it_was_compiled_for() {
        let cuda = Metadata::parse(r#"{"AOTI_DEVICE_KEY": "cuda"}"#).unwrap();
        let file = Path::new("models/m/1/model.pt2");
        let refused = |metadata: &Metadata, location, mend: &str| {
            let error = metadata
                .check_location(file, location)
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("1/model.pt2 was compiled for device"),
                "{error}"
            );
            assert!(error.contains(mend), "{error}");
        };
        metadata("").check_location(file, Location::Host).unwrap();
        cuda.check_location(file, Location::Accelerator(1)).unwrap();
        refused(&cuda, Location::Host, "--device cpu");
        refused(&metadata(""), Location::Accelerator(0), "KIND_CPU");
    }

    #[test]
    fn code_for_another_machine_is_refused_before_it_could_run() {
        let file = Path::new("1/model.pt2");
        metadata(", \"AOTI_CPU_ISA\": \"AMX NEWER\"")
            .check_processor(file)
            .unwrap();
        let other = metadata(", \"AOTI_PLATFORM\": \"linux\", \"AOTI_MACHINE\": \"pdp11\"");
        let error = other.check_processor(file).unwrap_err().to_string();
        assert!(error.contains("linux on pdp11"), "{error}");
        let plain = metadata(", \"AOTI_CPU_ISA\": \"AVX2\"").check_processor(file);
        assert_eq!(plain.is_ok(), has_extension("AVX2"));
    }
}
