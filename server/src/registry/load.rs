//! Loads a version of a model and starts its instances.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use forebay_proto::inference::ModelParameter;
use tokio::sync::watch;

use super::{
    Served, place,
    warmup::{self, Warmup},
};
use crate::{
    admission::Budget,
    device::{self, AnyDevice, Device, Devices, Location},
    executor::{self, Context, Parts, Pipeline},
    memory::Pool,
    model::{self, Identity, Model, TorchScript},
    repository::{Backend, ModelEntry, ModelSettings, Scheduling, Version},
    scheduler::Scheduler,
    statistics::Statistics,
};

/// What models are loaded with.
#[derive(Debug)]
pub struct Loader {
    /// Where they run.
    pub devices: Devices,
    /// Where tensors that are not aligned are copied to.
    pub pool: Pool,
    /// What replies are charged to.
    pub budget: Budget,
    /// Depth and mode of their pipelines.
    pub executor: executor::Config,
    /// Requests of one model that may wait, where its configuration does not say.
    pub max_queue_items: usize,
    /// libtorch's threads within one operation.
    pub intra_op_threads: usize,
    /// What the warm-up of a version may take, save for what its configuration asks for.
    pub warmup_timeout: Duration,
    /// Told the reason when a device that models run on fails for good.
    pub failed: watch::Sender<Option<String>>,
}

/// A version of a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file does not load, or does not fit its configuration.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The device has no room for it.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// It does not run what its configuration has it warm up with.
    #[error(transparent)]
    Warmup(#[from] warmup::Failed),
    /// It asks for a device that is not there.
    #[error(transparent)]
    Place(#[from] place::Error),
}

impl Loader {
    /// Loads a version of a model and starts its instances.
    ///
    /// # Errors
    /// The version cannot be served; the text says why and what to do.
    pub fn load(&self, entry: &ModelEntry, version: &Version) -> Result<Served, Error> {
        let settings = &entry.settings;
        let places = place::places(&self.devices, &settings.instances)?;
        let locations = locations(&places);
        let model = open(
            settings,
            version,
            (self.intra_op_threads, self.executor, &locations),
            &self.pool,
        )?;
        let scheduler = Arc::new(Scheduler::new(
            &settings.scheduling,
            settings.max_batch_size,
            places.len(),
            settings
                .queue
                .max_queue_size
                .unwrap_or(self.max_queue_items),
        ));
        let statistics = Arc::<Statistics>::default();
        let context = Arc::new(Context {
            signature: settings.signature.clone(),
            host_inputs: model.host_inputs(),
            budget: self.budget.clone(),
            statistics: Arc::clone(&statistics),
        });
        // Requests that are joined are copied then, and a device's own memory takes a copy anyway.
        let in_place = !scheduler.joins()
            && settings.backend != Backend::Identity
            && places
                .iter()
                .all(|place| matches!(place, AnyDevice::Cpu(_)));
        let mut served = Served {
            name: settings.name.clone(),
            version: version.number,
            settings: with_facts(settings, &*model, &locations),
            scheduler,
            statistics,
            devices: place::distinct(&places),
            align_in: in_place.then(|| self.pool.clone()),
            pipelines: Mutex::default(),
        };
        let started = self
            .start(&*model, &served, &context, &places)
            .and_then(|pipelines| self.warm_up(settings, pipelines));
        served.statistics.reset();
        match started {
            Ok(pipelines) => {
                served.pipelines = Mutex::new(pipelines);
                Ok(served)
            }
            Err(error) => {
                // Instances that did start find the queue closed and end.
                served.scheduler.close();
                Err(error)
            }
        }
    }

    /// Warms the instances up and lets them serve.
    fn warm_up(
        &self,
        settings: &ModelSettings,
        mut pipelines: Vec<Pipeline>,
    ) -> Result<Vec<Pipeline>, Error> {
        let warmup = Warmup {
            settings,
            pipelines: &pipelines,
            limit: self.warmup_timeout,
        };
        warmup.run()?;
        for pipeline in &mut pipelines {
            pipeline.serve()?;
        }
        Ok(pipelines)
    }

    fn start(
        &self,
        model: &dyn Model,
        served: &Served,
        context: &Arc<Context>,
        places: &[AnyDevice],
    ) -> Result<Vec<Pipeline>, Error> {
        let spawn = |(index, place): (usize, &AnyDevice)| match place {
            AnyDevice::Cpu(device) => self.spawn(device, model, served, context, index),
            AnyDevice::Simulated(device) => self.spawn(device, model, served, context, index),
            AnyDevice::Accelerator(device) => self.spawn(device, model, served, context, index),
        };
        places.iter().enumerate().map(spawn).collect()
    }

    fn spawn<D: Device>(
        &self,
        device: &Arc<D>,
        model: &dyn Model,
        served: &Served,
        context: &Arc<Context>,
        index: usize,
    ) -> Result<Pipeline, Error> {
        let failed = self.failed.clone();
        let pipeline = Pipeline::spawn_cold(Parts {
            device: Arc::clone(device),
            scheduler: Arc::clone(&served.scheduler),
            index,
            instance: model.instance(device.location())?,
            context: Arc::clone(context),
            config: served.settings.executor.over(self.executor),
        })?;
        // After the pipeline's own listener: by then the model is not ready any more.
        let tell = move |reason: &str| failed.send_replace(Some(reason.to_owned()));
        device.outage().listen(move |reason| drop(tell(reason)));
        Ok(pipeline)
    }
}

/// Loads a version of a model as far as it takes to know that it could be served. Returns what was
/// found out about it.
///
/// # Errors
/// As [`Loader::load`].
pub fn try_load(
    entry: &ModelEntry,
    version: &Version,
    devices: &Devices,
) -> Result<Vec<(&'static str, String)>, Error> {
    let settings = &entry.settings;
    let places = place::places(devices, &settings.instances)?;
    let locations = locations(&places);
    let config = executor::Config::default();
    let model = open(settings, version, (1, config, &locations), &Pool::new(0))?;
    for place in place::distinct(&places) {
        model.instance(place.location())?;
    }
    Ok(model.facts(&locations))
}

/// Returns where the memory of each place lies.
fn locations(places: &[AnyDevice]) -> Vec<Location> {
    places.iter().map(AnyDevice::location).collect()
}

/// Adds what was found out about the model to the parameters that the protocol shows.
fn with_facts(
    settings: &ModelSettings,
    model: &dyn Model,
    locations: &[Location],
) -> ModelSettings {
    let mut settings = settings.clone();
    for (name, string_value) in model.facts(locations) {
        let value = ModelParameter { string_value };
        settings.config.parameters.insert(name.to_owned(), value);
    }
    settings
}

fn open(
    settings: &ModelSettings,
    version: &Version,
    (intra_op_threads, config, locations): (usize, executor::Config, &[Location]),
    pool: &Pool,
) -> Result<Box<dyn Model>, Error> {
    let signature = settings.signature.clone();
    Ok(match settings.backend {
        Backend::Identity => Box::new(Identity::new(&signature)?),
        Backend::Aoti => {
            let aoti = model::AotiSettings {
                intra_op_threads,
                instances: locations.to_vec(),
                passes: settings
                    .executor
                    .over(config)
                    .passes_in_flight(settings.max_batch_size),
            };
            let file = &version.file;
            Box::new(model::Aoti::load(file, signature, aoti, pool.clone())?)
        }
        Backend::TorchScript => {
            let torch = model::TorchSettings {
                intra_op_threads,
                stateful: matches!(settings.scheduling, Scheduling::Sequence(_)),
                freeze: settings
                    .parameters
                    .get("DISABLE_OPTIMIZED_EXECUTION")
                    .map(String::as_str)
                    != Some("true"),
            };
            Box::new(TorchScript::load(
                &version.file,
                signature,
                torch,
                pool.clone(),
            )?)
        }
    })
}
