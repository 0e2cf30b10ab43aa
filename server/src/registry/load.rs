//! Loads a version of a model and starts its instances.

use std::{
    sync::{Arc, Mutex, OnceLock, Weak},
    time::Duration,
};

use forebay_proto::inference::ModelParameter;
use tokio::sync::watch;

use super::{
    Served, WarmupSizes,
    blueprint::{Blueprint, Started},
    place, trial,
    warmup::{self, Warmup},
};
use crate::{
    admission::Budget,
    device::{self, AnyDevice, Device, Devices, Location},
    executor::{self, Context, OutputShapes},
    memory::Pool,
    model::{self, File, Identity, Model, TorchScript},
    repository::{Backend, ModelEntry, ModelSettings, Scheduling, Version},
    residency::{Mode, Residency, Resident, TooLarge},
    scheduler::Scheduler,
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
    /// Which batch sizes are warmed up.
    pub warmup_sizes: WarmupSizes,
    /// Whether weights may leave memory, where a model's configuration does not say.
    pub model_residency: Mode,
    /// Who holds memory for weights.
    pub residency: Arc<Residency>,
    /// Told the reason when a device that models run on fails for good.
    pub failed: watch::Sender<Option<String>>,
    /// Told when a version begins or ends to take requests for another reason.
    pub readiness: watch::Sender<()>,
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
    /// Its weights find no room.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl Loader {
    /// Loads a version of a model and starts its instances.
    ///
    /// # Errors
    /// The version cannot be served; the text says why and what to do.
    pub fn load(&self, entry: &ModelEntry, version: &Version) -> Result<Arc<Served>, Error> {
        let settings = &entry.settings;
        // Once for the model.
        if entry.versions.first() == Some(version) {
            tell_notes(settings);
        }
        let blueprint = self.plan(settings, version)?;
        self.tell_of_outages(&blueprint);
        let started = self.start(settings, &blueprint);
        blueprint.context.statistics.reset();
        let Started { pipelines, bytes } = started.inspect_err(|_| {
            // Instances that did start find the queue closed and end.
            blueprint.scheduler.close();
        })?;
        let may_leave = settings.residency.unwrap_or(self.model_residency) == Mode::Lru;
        let locations = locations(&blueprint.places);
        // Requests that are joined are copied then, and a device's own memory takes a copy anyway.
        let in_place = !blueprint.scheduler.joins()
            && settings.backend != Backend::Identity
            && blueprint
                .places
                .iter()
                .all(|place| matches!(place, AnyDevice::Cpu(_)));
        let served = Arc::new(Served {
            name: settings.name.clone(),
            version: version.number,
            settings: with_facts(settings, &*blueprint.model, &locations),
            scheduler: Arc::clone(&blueprint.scheduler),
            statistics: Arc::clone(&blueprint.context.statistics),
            devices: place::distinct(&blueprint.places),
            align_in: in_place.then(|| self.pool.clone()),
            weights_bytes: bytes,
            pipelines: Mutex::new(pipelines),
            blueprint: may_leave.then_some(blueprint),
            member: OnceLock::new(),
            visits: Mutex::default(),
            readiness: self.readiness.clone(),
        });
        self.take_in(&served, may_leave)?;
        Ok(served)
    }

    fn plan(&self, settings: &ModelSettings, version: &Version) -> Result<Blueprint, Error> {
        let places = place::places(&self.devices, &settings.instances)?;
        // Looked at before it is read, so that a change in between is found.
        let file = File::look(&version.file);
        let model = open(
            settings,
            version,
            (self.intra_op_threads, self.executor, &locations(&places)),
            &self.pool,
        )?;
        trial::settle(&*model, &places);
        let queue = settings.queue.max_queue_size;
        let scheduler = Scheduler::new(
            &settings.scheduling,
            settings.max_batch_size,
            places.len(),
            queue.unwrap_or(self.max_queue_items),
        );
        let context = Context {
            signature: settings.signature.clone(),
            host_inputs: model.host_inputs(),
            budget: self.budget.clone(),
            statistics: Arc::default(),
            output_shapes: OutputShapes::new(&settings.name, version.number, &settings.signature),
        };
        Ok(Blueprint {
            model,
            file,
            places,
            scheduler: Arc::new(scheduler),
            context: Arc::new(context),
            config: settings.executor.over(self.executor),
        })
    }

    /// Makes the instances, warms them up and lets them serve.
    fn start(&self, settings: &ModelSettings, blueprint: &Blueprint) -> Result<Started, Error> {
        let mut started = blueprint.start()?;
        let mut places = blueprint.places.iter();
        let on_host = places.all(|place| matches!(place, AnyDevice::Cpu(_)));
        let warmup = Warmup {
            settings,
            pipelines: &started.pipelines,
            limit: self.warmup_timeout,
            extent: self.warmup_sizes,
            row: blueprint.model.row().filter(|_| on_host),
        };
        warmup.run()?;
        for pipeline in &mut started.pipelines {
            pipeline.serve()?;
        }
        Ok(started)
    }

    /// Counts the weights, and has them leave again where there is no room.
    fn take_in(&self, served: &Arc<Served>, may_leave: bool) -> Result<(), Error> {
        if !may_leave {
            self.residency.pin(served.weights_bytes);
            return Ok(());
        }
        if self.residency.usage().budget.is_none() {
            tracing::warn!(model = %served.name, "its weights never leave memory, since registry.weights_bytes sets no bound");
        }
        let model: Weak<dyn Resident> = Arc::<Served>::downgrade(served);
        match self.residency.admit(model, served.weights_bytes) {
            Ok(member) => drop(served.member.set(member)),
            Err(too_large) => {
                served.scheduler.close();
                served.join();
                return Err(too_large.into());
            }
        }
        Ok(())
    }

    /// Has the queue, and then the server, told when a device that the instances run on fails.
    fn tell_of_outages(&self, blueprint: &Blueprint) {
        for place in place::distinct(&blueprint.places) {
            match place {
                AnyDevice::Cpu(device) => self.tell_of_outage(&*device, blueprint),
                AnyDevice::Simulated(device) => self.tell_of_outage(&*device, blueprint),
                AnyDevice::Accelerator(device) => self.tell_of_outage(&*device, blueprint),
            }
        }
    }

    fn tell_of_outage<D: Device>(&self, device: &D, blueprint: &Blueprint) {
        executor::tell_of_outage(device, &blueprint.scheduler);
        let failed = self.failed.clone();
        // After the queue's: by then the model is not ready any more.
        let tell = move |reason: &str| failed.send_replace(Some(reason.to_owned()));
        device.outage().listen(move |reason| drop(tell(reason)));
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
    trial::settle(&*model, &places);
    for place in place::distinct(&places) {
        model.instance(place.location())?;
    }
    Ok(model.facts(&locations))
}

/// Logs what of a model's folder is ignored, or worth a look.
fn tell_notes(settings: &ModelSettings) {
    for note in &settings.notes {
        tracing::warn!(model = %settings.name, %note, "noted in the model's folder");
    }
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
    let signature = settings.signature.of_model();
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
                freeze: settings.may_freeze,
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
