//! TorchScript models, run by libtorch.
//!
//! A model is frozen where that is seen to change nothing and to lose no time: its outputs for a
//! made-up request are held against those of the module as it was saved, and so are its times.
//! Where such a request cannot be run, it stays as it was saved.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
};

use forebay_proto::DataType;

use super::{
    Argument, ArgumentKind, Error, File, Instance, Model, RowTime, Schema, Trial, concise, sample,
    shown,
};
use crate::{
    device::Location,
    memory::Pool,
    signature::{Signature, TensorSpec},
    tensor::Placed,
    torch::{self, Form, Module, SharedModule, kind},
};

pub(super) mod arguments;
mod choice;
mod elsewhere;
mod instance;
mod measure;
pub(super) mod outputs;
mod stopwatch;

use choice::Choice;
use elsewhere::Elsewhere;
use instance::Loaded;

/// A TorchScript file and how a configuration's tensors map to its `forward`.
#[derive(Debug, Clone)]
pub struct TorchScript {
    plan: Arc<Plan>,
    /// Modules that instances share, by where they lie.
    shared: Arc<Mutex<Vec<(Location, SharedModule)>>>,
    why: String,
    /// What passes over one row took on the host.
    row: Option<RowTime>,
}

#[derive(Debug)]
struct Plan {
    file: PathBuf,
    /// Its state then.
    as_checked: File,
    signature: Signature,
    schema: Schema,
    /// For each argument the input that fills it.
    inputs: Vec<Option<usize>>,
    /// For each output its place among what `forward` returns.
    outputs: Vec<usize>,
    settings: Settings,
    pool: Pool,
    /// The form of instances on the host, where it was measured.
    on_host: Form,
    elsewhere: Mutex<Elsewhere>,
}

/// How instances run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Threads within one operation; libtorch keeps this number for each calling thread.
    pub intra_op_threads: usize,
    /// Whether the model is declared to keep state between calls.
    pub stateful: bool,
    /// Whether the model may be frozen.
    pub freeze: bool,
}

impl TorchScript {
    /// Loads `file`, checks that its `forward` fits `signature`, and finds out whether it can be
    /// frozen.
    ///
    /// # Errors
    /// The file does not load, or does not fit; the text says what to change.
    pub fn load(
        file: &Path,
        signature: Signature,
        settings: Settings,
        pool: Pool,
    ) -> Result<Self, Error> {
        prefer_even_first_passes();
        limit_threads(settings.intra_op_threads);
        // Looked at before it is read, so that a change in between is found.
        let as_checked = File::look(file);
        let mut saved = load(file, Form::Saved, Location::Host)?;
        let schema = Schema::parse(&saved.schema().map_err(|text| unloadable(file, &text))?)?;
        if schema.trains {
            tracing::warn!(
                file = %file.display(),
                "the model was saved in training mode, and is served in evaluation mode; call eval() before it is saved"
            );
        }
        let inputs = schema.map(&signature.inputs)?;
        for (argument, input) in schema.arguments.iter().zip(&inputs) {
            if let Some(input) = input {
                check_argument(
                    argument,
                    &signature.inputs[*input],
                    signature.max_batch_size,
                )?;
            }
        }
        for spec in &signature.outputs {
            if kind(spec.datatype).is_none() && spec.datatype != DataType::Bytes {
                return Err(no_such_tensors(spec));
            }
            if spec.datatype == DataType::Bytes && signature.max_batch_size > 0 {
                return Err(Error::Mismatch(format!(
                    "output '{}' is a List[str], which has no batch dimension; write max_batch_size: 0",
                    spec.name
                )));
            }
        }
        let mut plan = Plan {
            file: file.to_owned(),
            as_checked,
            outputs: outputs::places(&signature.outputs),
            signature,
            schema,
            inputs,
            settings,
            pool,
            on_host: Form::Saved,
            elsewhere: Mutex::new(Elsewhere {
                form: Form::Saved,
                found: Vec::new(),
            }),
        };
        let choice = if settings.freeze {
            choice::choose(&plan, saved)
        } else {
            Choice::saved("its configuration says so".to_owned())
        };
        plan.on_host = choice.form;
        plan.elsewhere().form = choice.furthest;
        let shared = choice.module.map(|module| (Location::Host, module));
        Ok(Self {
            plan: Arc::new(plan),
            shared: Arc::new(Mutex::new(shared.into_iter().collect())),
            why: choice.why,
            row: choice.row,
        })
    }

    /// Returns the form that instances on the host run: `saved`, `frozen` or `optimized`.
    pub fn form(&self) -> String {
        self.plan.on_host.to_string()
    }

    /// Returns why that form is taken.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Returns whether instances run another form than the saved one.
    pub fn is_frozen(&self) -> bool {
        self.plan.on_host != Form::Saved
    }

    /// Returns whether instances on the host share a module.
    pub fn is_shared(&self) -> bool {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.iter().any(|(at, _)| *at == Location::Host)
    }

    /// Returns the module that instances at `location` share, if they do, or one of their own.
    fn module(&self, location: Location) -> Result<instance::Copy, Error> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, module)) = shared.iter().find(|(at, _)| *at == location) {
            return Ok(instance::Copy::Shared(module.clone()));
        }
        let module = load(&self.plan.file, self.plan.form(location), location)?;
        Ok(match module.share() {
            Ok(module) => {
                shared.push((location, module.clone()));
                instance::Copy::Shared(module)
            }
            Err(module) => instance::Copy::Own(module),
        })
    }
}

/// Switches the profiling of graphs off, until something is loaded onto an accelerator. On the CPU
/// libtorch has no use for it, and each graph would pay for a second compilation at its second pass.
fn prefer_even_first_passes() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| torch::specialise_graphs(false));
}

fn load(file: &Path, form: Form, location: Location) -> Result<Module, Error> {
    Module::load(file, form, location).map_err(|text| match Error::thrown(&text, location) {
        Error::Forward(_) => unloadable(file, &text),
        // The file is not what is wrong.
        other => other,
    })
}

fn unloadable(file: &Path, text: &str) -> Error {
    Error::Load {
        file: shown(file),
        reason: concise(text),
    }
}

fn no_such_tensors(spec: &TensorSpec) -> Error {
    Error::Mismatch(format!(
        "tensor '{}' is {}, which TorchScript does not have; choose another data_type",
        spec.name, spec.datatype
    ))
}

fn check_argument(argument: &Argument, spec: &TensorSpec, batch: usize) -> Result<(), Error> {
    let scalar = !matches!(argument.kind, ArgumentKind::Tensor | ArgumentKind::Strings);
    let wrong = |needs: &str| {
        Err(Error::Mismatch(format!(
            "input '{}' fills argument '{}' of the model, which needs {needs}",
            spec.name, argument.name
        )))
    };
    match argument.kind {
        ArgumentKind::Strings if spec.datatype != DataType::Bytes => {
            wrong("data_type TYPE_STRING, because it is a List[str]")
        }
        ArgumentKind::Strings => Ok(()),
        _ if kind(spec.datatype).is_none() => Err(no_such_tensors(spec)),
        _ if scalar && batch > 0 => {
            wrong("max_batch_size: 0, because a number can't be joined to a batch")
        }
        _ if scalar && spec.dims.iter().any(|&dim| dim > 1) => {
            wrong("dims: [ 1 ], because it is a single number")
        }
        _ => Ok(()),
    }
}

impl Model for TorchScript {
    fn instance(&self, location: Location) -> Result<Box<dyn Instance>, Error> {
        limit_threads(self.plan.settings.intra_op_threads);
        if location != Location::Host {
            torch::specialise_graphs(true);
        }
        let copy = self.module(location)?;
        let plan = Arc::clone(&self.plan);
        Ok(Box::new(Loaded::new(plan, copy, location)))
    }

    fn release(&self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.clear();
    }

    fn facts(&self, locations: &[Location]) -> Vec<(&'static str, String)> {
        let elsewhere = self.plan.elsewhere();
        let forms = elsewhere::forms(self.plan.on_host, elsewhere.form, locations);
        let found = elsewhere.found.iter().map(String::as_str);
        let why: Vec<_> = std::iter::once(self.why()).chain(found).collect();
        vec![
            ("FOREBAY_FORM", forms),
            ("FOREBAY_FORM_REASON", why.join("; ")),
        ]
    }

    fn settle(&self, location: Location, run: &mut Trial<'_>) -> bool {
        self.settle_elsewhere(location, run)
    }

    fn row(&self) -> Option<RowTime> {
        self.row
    }

    fn host_inputs(&self) -> Vec<bool> {
        let mut on_host = vec![false; self.plan.signature.inputs.len()];
        for (argument, input) in self.plan.schema.arguments.iter().zip(&self.plan.inputs) {
            if let Some(input) = *input {
                on_host[input] = argument.kind != ArgumentKind::Tensor;
            }
        }
        on_host
    }
}

impl Plan {
    /// Puts a request's inputs into the order of the arguments.
    fn arguments(&self, mut inputs: Vec<Option<Placed>>) -> Result<Vec<torch::Argument>, Error> {
        let mut arguments = Vec::with_capacity(self.inputs.len());
        let mut left_out: Option<&Argument> = None;
        for (argument, input) in self.schema.arguments.iter().zip(&self.inputs) {
            match (
                input.and_then(|input| inputs.get_mut(input)?.take()),
                left_out,
            ) {
                (Some(tensor), None) => {
                    arguments.push(arguments::fill(argument, tensor, &self.pool)?);
                }
                (Some(_), Some(before)) => {
                    return Err(Error::Input {
                        name: before.name.clone(),
                        reason: format!("may be left out only if '{}' is too", argument.name),
                    });
                }
                // TorchScript fills trailing arguments from their defaults.
                (None, _) if argument.has_default => left_out = left_out.or(Some(argument)),
                (None, _) => arguments.push(torch::Argument::None),
            }
        }
        Ok(arguments)
    }

    /// Runs a pass through `run`.
    fn forward(
        &self,
        run: impl FnOnce(&[torch::Argument]) -> Result<Vec<torch::Output>, String>,
        inputs: Vec<Option<Placed>>,
        location: Location,
    ) -> Result<Vec<Placed>, Error> {
        let values = run(&self.arguments(inputs)?);
        let values = values.map_err(|text| Error::thrown(&text, location))?;
        outputs::collect(&self.signature.outputs, &self.outputs, &values)
    }

    fn form(&self, location: Location) -> Form {
        match location {
            Location::Host => self.on_host,
            Location::Accelerator(_) => self.elsewhere().form,
        }
    }

    fn elsewhere(&self) -> MutexGuard<'_, Elsewhere> {
        let elsewhere = self.elsewhere.lock();
        elsewhere.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets libtorch's thread count for the calling thread, once: MKL and OpenMP keep it per thread.
pub(super) fn limit_threads(threads: usize) {
    thread_local! {
        static LIMIT: Cell<usize> = const { Cell::new(0) };
    }
    if LIMIT.replace(threads) != threads
        && let Ok(threads) = i32::try_from(threads)
    {
        tch::set_num_threads(threads);
    }
}
