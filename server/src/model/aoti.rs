//! Packages of AOTInductor (`.pt2`), run by libtorch.
//!
//! All instances on one device share one loaded package, and with it the weights; each run takes a
//! runner of its own. Invariant: nothing reaches the package that it was not compiled for, because
//! its code reads memory by the datatypes and shapes that it was compiled with.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tch::{Kind, Tensor};

use self::{call_spec::CallSpec, metadata::Metadata};
use super::{
    Error, Instance, Model, Weights, concise, sample, shown,
    torchscript::{arguments::lend, limit_threads, outputs::from_tensor},
};
use crate::{
    device::Location,
    memory::Pool,
    signature::{Signature, TensorSpec},
    tensor::Placed,
    torch::{Package, RunError, kind},
};

mod call_spec;
mod metadata;

/// How libtorch tells that a package's own code failed; nothing else is passed on.
const UNTOLD: &str = "API call failed";

/// A package and how a configuration's tensors map to it.
#[derive(Debug)]
pub struct Aoti {
    plan: Arc<Plan>,
    /// The package as it was loaded to each location.
    loaded: Mutex<Vec<(Location, Arc<Linked>)>>,
}

/// How instances run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads within one operation; OpenMP keeps this number for each calling thread.
    pub intra_op_threads: usize,
    /// Where each instance runs.
    pub instances: Vec<Location>,
    /// The most passes of an instance that may be under way on an accelerator.
    pub passes: usize,
}

impl Settings {
    /// Returns how many runners the package needs at `location`. On an accelerator a runner is taken
    /// until the pass is over, while the host goes on to the next one. It has no weights of its own,
    /// and loads its kernels when it first runs.
    fn runners(&self, location: Location) -> usize {
        let instances = self.instances.iter().filter(|at| **at == location).count();
        let passes = match location {
            Location::Host => 1,
            Location::Accelerator(_) => self.passes,
        };
        instances.saturating_mul(passes).max(1)
    }
}

#[derive(Debug)]
struct Plan {
    file: PathBuf,
    signature: Signature,
    metadata: Metadata,
    settings: Settings,
    pool: Pool,
}

/// A loaded package, and where its tensors are in the configuration.
#[derive(Debug)]
struct Linked {
    package: Package,
    /// For each of the package's inputs the one of the configuration.
    inputs: Vec<usize>,
    /// For each output of the configuration the package's.
    outputs: Vec<usize>,
}

impl Aoti {
    /// Reads what the package in `file` tells of itself, and checks that this machine and
    /// `signature` fit it as far as that goes. The package is loaded with its first instance.
    ///
    /// # Errors
    /// The file is no such package, or does not fit; the text says what to change.
    pub fn load(
        file: &Path,
        signature: Signature,
        settings: Settings,
        pool: Pool,
    ) -> Result<Self, Error> {
        let text = Package::describe(file).map_err(|text| unloadable(file, &text))?;
        let metadata = Metadata::parse(&text).map_err(|text| unloadable(file, &text))?;
        metadata.check_processor(file)?;
        for spec in signature.inputs.iter().chain(&signature.outputs) {
            if kind(spec.datatype).is_none() {
                return Err(Error::Mismatch(format!(
                    "tensor '{}' is {}, which a package does not have; choose another data_type",
                    spec.name, spec.datatype
                )));
            }
            if spec.optional {
                return Err(Error::Mismatch(format!(
                    "input '{}' is optional, but a package needs every input; remove that",
                    spec.name
                )));
            }
        }
        let plan = Plan {
            file: file.to_owned(),
            signature,
            metadata,
            settings,
            pool,
        };
        Ok(Self {
            plan: Arc::new(plan),
            loaded: Mutex::default(),
        })
    }

    /// Returns the package at `location`, which is loaded there once.
    fn at(&self, location: Location) -> Result<Arc<Linked>, Error> {
        // Held while the package loads, so that a second instance waits for it.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, linked)) = loaded.iter().find(|(at, _)| *at == location) {
            return Ok(Arc::clone(linked));
        }
        let linked = Arc::new(self.plan.link(location)?);
        loaded.push((location, Arc::clone(&linked)));
        Ok(linked)
    }
}

fn unloadable(file: &Path, text: &str) -> Error {
    Error::Package {
        file: shown(file),
        reason: concise(text),
    }
}

impl Model for Aoti {
    fn instance(&self, location: Location) -> Result<Box<dyn Instance>, Error> {
        self.plan
            .metadata
            .check_location(&self.plan.file, location)?;
        Ok(Box::new(Loaded {
            linked: self.at(location)?,
            plan: Arc::clone(&self.plan),
            location,
        }))
    }

    fn release(&self) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.clear();
    }
}

impl Plan {
    /// Loads the package and finds the configuration's tensors in it.
    fn link(&self, location: Location) -> Result<Linked, Error> {
        let runners = self.settings.runners(location);
        let fails = |text: String| unloadable(&self.file, &text);
        let package = Package::load(&self.file, runners, location).map_err(fails)?;
        let spec = package.call_spec().and_then(|text| CallSpec::parse(&text));
        let spec = spec.map_err(fails)?;
        let inputs = spec.inputs(&self.signature.inputs)?;
        let outputs = spec.outputs(&self.signature.outputs)?;
        let linked = Linked {
            package,
            inputs,
            outputs,
        };
        if !self
            .metadata
            .check_inputs(&self.signature, &linked.inputs)?
        {
            self.try_out(&linked, location)?;
        }
        Ok(linked)
    }

    /// Runs a package that does not tell of its inputs once, with its own checks of them.
    fn try_out(&self, linked: &Linked, location: Location) -> Result<(), Error> {
        let file = shown(&self.file);
        if location != Location::Host {
            if self.signature.max_batch_size > 1 {
                // It could read beyond a batch that is smaller than the one it was compiled for.
                return Err(Error::Mismatch(format!(
                    "{file} does not tell whether its batch dimension is dynamic; export it with \
                     docs/export/export_aoti.py, or write max_batch_size: 1"
                )));
            }
            tracing::warn!(%file, "the package does not tell its inputs' datatypes and shapes, which must be those in config.pbtxt; docs/export/export_aoti.py writes them into it");
            return Ok(());
        }
        limit_threads(self.settings.intra_op_threads);
        let most = self.signature.max_batch_size.max(1);
        let refusal = |rows: usize, text: &str, mend: &str| {
            Error::Mismatch(format!(
                "{file} refuses a made-up request of {rows} items with the data_types and dims in \
                 config.pbtxt ({}); what it was exported with is in the server's log, so {mend}",
                run_failure(text)
            ))
        };
        let tried = self.probe(linked, most);
        tried.map_err(|text| refusal(most, &text, "change config.pbtxt to that"))?;
        // It may have been compiled for that size alone.
        let mut last = None;
        for &rows in others(most) {
            match self.probe(linked, rows) {
                Ok(()) => return Ok(()),
                Err(text) => last = Some((rows, text)),
            }
        }
        match last {
            None => Ok(()),
            Some((rows, text)) => {
                let mend =
                    "export it with a dynamic batch dimension, as docs/export/export_aoti.py does";
                Err(refusal(rows, &text, mend))
            }
        }
    }

    fn probe(&self, linked: &Linked, rows: usize) -> Result<(), String> {
        let inputs = linked.inputs.iter();
        let made = inputs.map(|&input| self.made_up(&self.signature.inputs[input], rows));
        let made: Result<Vec<Tensor>, _> = made.collect();
        let made = made.map_err(|error| error.to_string())?;
        Package::probe(&self.file, &made)
    }

    fn made_up(&self, spec: &TensorSpec, rows: usize) -> Result<Tensor, tch::TchError> {
        let batch = self.signature.is_batching();
        let batch = batch.then(|| i64::try_from(rows).unwrap_or(i64::MAX));
        let dims: Vec<i64> = batch.into_iter().chain(sample::dims(spec)).collect();
        let kind = kind(spec.datatype).unwrap_or(Kind::Float);
        Tensor::f_zeros(dims, (kind, tch::Device::Cpu))
    }

    /// Puts a request's inputs into the order of the package's, and checks them against it.
    fn arguments(
        &self,
        linked: &Linked,
        mut inputs: Vec<Option<Placed>>,
        location: Location,
    ) -> Result<Vec<Tensor>, Error> {
        let mut arguments = Vec::with_capacity(linked.inputs.len());
        for (place, &input) in linked.inputs.iter().enumerate() {
            let spec = &self.signature.inputs[input];
            let wrong = |reason: String| Error::Input {
                name: spec.name.clone(),
                reason,
            };
            let tensor = match (inputs.get_mut(input).and_then(Option::take), location) {
                (Some(Placed::Host(tensor)), Location::Host) => {
                    lend(tensor, &self.pool).map_err(wrong)?
                }
                (Some(Placed::Device(tensor)), Location::Accelerator(_)) => tensor.into_tensor(),
                (Some(_), _) => {
                    return Err(wrong(
                        "is not in the memory of the package's device".to_owned(),
                    ));
                }
                (None, _) => return Err(wrong("is missing".to_owned())),
            };
            self.metadata
                .check_shape(place, &tensor.size())
                .map_err(wrong)?;
            arguments.push(tensor);
        }
        Ok(arguments)
    }
}

/// One of those that share a loaded package.
#[derive(Debug)]
struct Loaded {
    plan: Arc<Plan>,
    linked: Arc<Linked>,
    location: Location,
}

impl Instance for Loaded {
    fn forward(&mut self, inputs: Vec<Option<Placed>>) -> Result<Vec<Placed>, Error> {
        let Self {
            plan,
            linked,
            location,
        } = self;
        limit_threads(plan.settings.intra_op_threads);
        let arguments = plan.arguments(linked, inputs, *location)?;
        let values = linked
            .package
            .run(&arguments)
            .map_err(|error| match error {
                RunError::OutOfMemory(text) => Error::OutOfMemory(run_failure(&text)),
                RunError::Failed(text) if text.contains(UNTOLD) => {
                    Error::Forward(run_failure(&text))
                }
                RunError::Failed(text) => Error::thrown(&text, *location),
            })?;
        // Dropped first: an output that shares an input's memory may then be its only owner.
        drop(arguments);
        let output = |(spec, &place): (&TensorSpec, &usize)| match values.get(place) {
            Some(tensor) => from_tensor(spec, tensor),
            None => Err(Error::Output {
                name: spec.name.clone(),
                actual: "absent".to_owned(),
                expected: "a tensor".to_owned(),
            }),
        };
        let specs = plan.signature.outputs.iter();
        specs.zip(&linked.outputs).map(output).collect()
    }

    /// A package does not tell of its weights; its file holds little else.
    fn weights(&self) -> Weights {
        let file = fs::metadata(&self.plan.file);
        Weights {
            at: Arc::as_ptr(&self.linked).addr(),
            bytes: file.map_or(0, |file| file.len()),
        }
    }

    /// A package keeps no state.
    fn reset(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Returns the batch sizes of which a package must take one besides the largest. Where two is not among the
/// smaller ones: others than our exporter let compilers take it that a dynamic batch is not one.
fn others(most: usize) -> &'static [usize] {
    match most {
        0 | 1 => &[],
        2 => &[1, 3],
        _ => &[2],
    }
}

/// Says what is known of a failed run: mostly no more than that, and a line of libtorch's source.
fn run_failure(text: &str) -> String {
    if text.contains(UNTOLD) {
        "the package's code failed, and wrote why to the server's standard error".to_owned()
    } else {
        concise(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{Config, MicroBatches};

    #[test]
    fn there_is_a_runner_for_each_pass_that_may_be_under_way_at_a_place() {
        let gpu = Location::Accelerator;
        let runners = |micro_batches: &str, max_batch_size, at| {
            let config = Config {
                micro_batches: micro_batches.parse::<MicroBatches>().unwrap(),
                ..Config::default()
            };
            let settings = Settings {
                intra_op_threads: 1,
                instances: vec![gpu(0), gpu(0), gpu(1), Location::Host],
                passes: config.passes_in_flight(max_batch_size),
            };
            settings.runners(at)
        };
        assert_eq!(runners("off", 64, gpu(0)), 2 * 3);
        assert_eq!(runners("off", 64, gpu(1)), 3);
        assert_eq!(runners("12", 64, gpu(1)), 3 * 12);
        assert_eq!(runners("auto", 64, gpu(1)), 3 * 8);
        assert_eq!(runners("auto", 2, gpu(1)), 3 * 2);
        assert_eq!(runners("auto", 0, gpu(1)), 3);
        assert_eq!(runners("auto", 64, Location::Host), 1);
        assert_eq!(runners("off", 1, gpu(5)), 1);
    }
}
