//! The composition root: the only place that builds the parts and joins them.
//!
//! A [`Server`] is made with its models loaded; [`Server::serve`] takes a listener that is bound.
//!
//! Invariant: once `serve` has returned, every accepted request is answered or its connection was
//! cut at the end of the drain, and every thread of the executor has ended, save one in a forward
//! pass that nobody waits for any more: a pass cannot be stopped.

use std::{io, sync::Arc, thread, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    admission::Budget,
    config::Config,
    device::{self, Devices, OnFailure},
    grpc::{self, Health, InferenceService},
    inference::Inference,
    memory::Pool,
    metrics::Metrics,
    overflow::Overflow,
    registry::{self, Loader, Registry},
    repository::{self, Repository},
    residency::Residency,
    telemetry::Tracer,
    transport::{self, Drained},
};

/// How long the executor may take to end once no request is left. Only a pass whose requests were
/// cut at the end of the drain takes longer than a moment.
const PASS_PATIENCE: Duration = Duration::from_secs(2);

/// A server whose models are loaded.
#[derive(Debug)]
pub struct Server {
    config: Config,
    registry: Arc<Registry>,
    budget: Budget,
    pool: Pool,
    devices: Devices,
    tracer: Tracer,
    overflow: Option<Overflow>,
    /// The latest reason of a device, or of what parks requests, that has failed for good.
    failed: watch::Sender<Option<String>>,
    /// Told when a model begins or ends to take requests for another reason.
    readiness: watch::Sender<()>,
}

/// The server cannot start, or has ended in disorder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository as a whole is unusable.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The configuration asks for a device that is not there.
    #[error(transparent)]
    Device(#[from] device::Unavailable),
    /// A disk for what overflows memory cannot be used.
    #[error("cannot spill to disk, as spill.dirs says")]
    Spill(#[from] forebay_spill::OpenError),
    /// The system gives no thread.
    #[error("cannot start a thread to load models")]
    Thread(#[source] io::Error),
    /// Loading panicked.
    #[error("loading the models panicked; see the log")]
    Loading,
    /// A device, or what parks requests, has failed for good, and the configuration says to end then.
    /// What was accepted is answered.
    #[error("the server has ended, as device.on_failure says: {reason}")]
    DeviceFailed {
        /// What the device says.
        reason: String,
    },
}

impl Server {
    /// Loads the models of the repository, until `stop` is cancelled: then those that are left are not
    /// loaded. Models that are wrong are logged, and not ready.
    ///
    /// # Errors
    /// The repository as a whole cannot be read.
    pub async fn load(
        config: Config,
        tracer: Tracer,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let budget = Budget::new("host", config.admission.host_bytes.as_u64());
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        // Idle slabs may take an eighth of what requests may, as long as those leave it.
        let pool = Pool::within(bytes(budget.capacity() / 8), bytes(budget.capacity()));
        let (spill, of_store) = (config.spill.clone(), pool.clone());
        let longest = config.admission.max_message_bytes.as_u64();
        let open = move || Overflow::open(&spill, longest, of_store);
        let store = off_the_workers("fb-spill", open).await??;
        let settings = config.device.clone();
        let of_host = pool.clone();
        let open = move || Devices::open(&settings, of_host);
        let devices = off_the_workers("fb-devices", open).await??;
        announce(&devices);
        let dir = config.model_repository.clone();
        let scan = move || Repository::open(&dir)?.scan();
        let scanned = off_the_workers("fb-scan", scan).await??;
        let instances: usize = scanned
            .iter()
            .flatten()
            // A model whose places cannot be found does not load, which is told where it is tried.
            .filter_map(|entry| {
                let places = registry::places(&devices, &entry.settings.instances).ok()?;
                // Each version has all of them.
                Some(places.len() * entry.versions.len())
            })
            .sum();
        let (failed, readiness) = (watch::Sender::new(None), watch::Sender::new(()));
        let loader = Loader {
            devices: devices.clone(),
            pool: pool.clone(),
            budget: budget.clone(),
            executor: config.executor,
            max_queue_items: config.scheduler.max_queue_items,
            intra_op_threads: threads(config.scheduler.intra_op_threads, instances),
            warmup_timeout: config.registry.warmup_timeout,
            warmup_sizes: config.registry.warmup_sizes,
            model_residency: config.registry.model_residency,
            residency: Arc::new(Residency::new(
                config.registry.weights_budget(),
                config.registry.residency_turn,
            )),
            failed: failed.clone(),
            readiness: readiness.clone(),
        };
        let load = move || Registry::load(scanned, &loader, &stop);
        let registry = off_the_workers("fb-load", load).await?;
        let registry = registry.map_err(Error::Thread)?;
        let overflow = store.map(|store| {
            let queues = registry.queues();
            Overflow::new(store, &config.spill, budget.clone(), queues)
        });
        Ok(Self {
            config,
            overflow,
            registry: Arc::new(registry),
            budget,
            pool,
            devices,
            tracer,
            failed,
            readiness,
        })
    }

    /// Returns the models.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Returns the host memory that requests and replies are charged to.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Returns what the models may run on.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// Shows what the server does. The figures hold its parts until they are no longer read.
    pub fn observe(&self, metrics: &Metrics) {
        metrics.observe_host(self.budget.clone());
        metrics.observe_models(Arc::clone(&self.registry));
        if let Some(overflow) = &self.overflow {
            metrics.observe_spill(overflow.store().clone());
        }
    }

    /// Serves until `shutdown` is cancelled; then finishes what was accepted, for at most
    /// `transport.drain_timeout`.
    ///
    /// # Errors
    /// The system gives no thread to wait for the executor on; or a device failed, and the
    /// configuration says to end then.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<Drained, Error> {
        let shelf = self.overflow.as_ref().map(Overflow::shelf).cloned();
        let service = InferenceService {
            registry: Arc::clone(&self.registry),
            inference: Inference::new(Arc::clone(&self.registry), self.tracer).shelving(shelf),
            draining: shutdown.clone(),
            max_stream_items: self.config.scheduler.max_stream_items,
        };
        let health = Health::default();
        let told = self.registry.all_ready();
        health.set(told).await;
        let memory = (self.budget, self.pool);
        let routes = grpc::routes(service, &health, memory, &self.config.admission);
        let gone = async {
            let watched = Watched {
                registry: &self.registry,
                failed: self.failed.subscribe(),
                readiness: self.readiness.subscribe(),
                told,
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = watched.tell(&health, self.config.device.on_failure) => shutdown.cancel(),
            }
            health.end().await;
        };
        // Until the queues are empty, and so longer than there are connections.
        let ended = CancellationToken::new();
        let overflow = self.overflow.map(|overflow| {
            let run = overflow.run(ended.clone(), self.failed.clone());
            AbortOnDropHandle::new(tokio::spawn(run))
        });
        let serving = transport::serve(listener, routes, &self.config.transport, shutdown.clone());
        let (drained, ()) = tokio::join!(serving, gone);
        let registry = self.registry;
        let closed = off_the_workers("fb-close", move || registry.close());
        match tokio::time::timeout(PASS_PATIENCE, closed).await {
            Ok(closed) => closed?,
            Err(_) => {
                tracing::warn!("a forward pass did not end in time; it ends with the process")
            }
        }
        ended.cancel();
        if let Some(overflow) = overflow
            && let Ok(store) = overflow.await
        {
            // What is on disk is nobody's any more.
            let closed = off_the_workers("fb-spill-close", move || drop(store));
            match tokio::time::timeout(PASS_PATIENCE, closed).await {
                Ok(closed) => closed?,
                Err(_) => tracing::warn!("a disk does not answer; it is left at the end"),
            }
        }
        let failed = self.failed.borrow().clone();
        match (self.config.device.on_failure, failed) {
            (OnFailure::Exit, Some(reason)) => Err(Error::DeviceFailed { reason }),
            (OnFailure::Exit | OnFailure::NotReady, _) => Ok(drained),
        }
    }
}

/// What health is told from.
struct Watched<'a> {
    registry: &'a Registry,
    failed: watch::Receiver<Option<String>>,
    readiness: watch::Receiver<()>,
    /// What was told last: who watches is told of changes alone.
    told: bool,
}

impl Watched<'_> {
    /// Tells whether all models take requests, now and whenever that may have changed. Returns where a part
    /// has failed for good and the server is to end then; else never.
    async fn tell(mut self, health: &Health, on_failure: OnFailure) {
        loop {
            let is_lost = self.failed.borrow_and_update().is_some();
            let serving = !is_lost && self.registry.all_ready();
            if serving != self.told {
                self.told = serving;
                health.set(serving).await;
            }
            if is_lost && on_failure == OnFailure::Exit {
                return;
            }
            tokio::select! {
                Ok(()) = self.failed.changed() => {}
                Ok(()) = self.readiness.changed() => {}
                // Without senders there is nothing that could change.
                else => std::future::pending().await,
            }
        }
    }
}

/// Says at start what models may run on.
fn announce(devices: &Devices) {
    let names: Vec<_> = devices
        .accelerators()
        .iter()
        .map(|one| one.name())
        .collect();
    match devices.missing() {
        None => tracing::info!(accelerators = ?names, "models may run on accelerators"),
        Some(why) => tracing::info!(why, "models run on the host: there is no accelerator"),
    }
}

/// Divides the cores by the instances, unless the configuration says how many.
fn threads(configured: usize, instances: usize) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    match configured {
        0 => (cores / instances.max(1)).max(1),
        threads => threads,
    }
}

/// Runs what blocks on a thread of its own.
async fn off_the_workers<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (done, result) = oneshot::channel();
    let run = move || {
        // The caller may have been cancelled; then nobody waits for the result.
        let _unwanted = done.send(work());
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(Error::Thread)?;
    result.await.map_err(|_| Error::Loading)
}
