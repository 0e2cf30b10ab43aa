//! The models that are served, by name and version.
//!
//! Invariant: a model either is ready, with running instances, or has a reason why not; `ModelReady`
//! and the index tell which. What was loaded stays, also while its weights are out of memory; whether
//! its device has failed, or it could not be brought back, is asked each time.

use std::{borrow::Cow, collections::BTreeMap, io, sync::Arc, time::Instant};

use forebay_proto::inference::repository_index_response::ModelIndex;
use tokio_util::sync::CancellationToken;

use crate::{
    device::AnyDevice,
    error::Error,
    repository::ScannedModel,
    residency::{Mode, Residency, Usage},
    scheduler::Scheduler,
    torch,
};

mod blueprint;
mod config;
mod load;
mod place;
mod served;
mod trial;
mod warmup;

pub use config::{Config, WarmupSizes};
pub use load::{Loader, try_load};
pub use place::{Error as PlaceError, places};
pub use served::Served;

/// The models that are served.
#[derive(Debug)]
pub struct Registry {
    models: BTreeMap<String, Versions>,
    residency: Arc<Residency>,
}

/// The versions of a model, and what became of them.
#[derive(Debug, Default)]
struct Versions {
    /// Versions that loaded. Their device may have failed since.
    loaded: BTreeMap<u64, Arc<Served>>,
    /// Versions that did not load. Version 0 stands for a model whose configuration is wrong.
    failed: BTreeMap<u64, String>,
}

impl Registry {
    /// Loads every model that was found, or those before `stop` was cancelled. Blocks while files are read;
    /// call it on a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread to bring models in.
    pub fn load(
        mut scanned: Vec<ScannedModel>,
        loader: &Loader,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let mut models = BTreeMap::new();
        // Those that stay come first, so that it is known what they leave to the others.
        scanned.sort_by_key(|scanned| {
            let residency = scanned.as_ref().ok().and_then(|one| one.settings.residency);
            residency.unwrap_or(loader.model_residency) == Mode::Lru
        });
        for scanned in scanned {
            if stop.is_cancelled() {
                break;
            }
            let (name, versions) = match scanned {
                Ok(entry) => (entry.settings.name.clone(), Versions::load(&entry, loader)),
                Err(fault) => {
                    tracing::error!(model = %fault.name, faults = ?fault.faults, "model is wrong");
                    let reason = fault.faults.join("; ");
                    let failed = BTreeMap::from([(0, reason)]);
                    let versions = Versions {
                        failed,
                        ..Versions::default()
                    };
                    (fault.name, versions)
                }
            };
            models.insert(name, versions);
        }
        // What was tried and lost leaves more behind than what serves.
        torch::trim();
        let residency = Arc::clone(&loader.residency);
        residency.start()?;
        let Usage { budget, bytes, .. } = residency.usage();
        if budget.is_some_and(|budget| bytes > budget) {
            tracing::warn!(
                bytes,
                budget,
                "pinned models hold more than registry.weights_bytes"
            );
        }
        Ok(Self { models, residency })
    }

    /// Finds a version of a model; an empty `version` is the latest that is ready.
    ///
    /// # Errors
    /// There is no such model or version, or it did not load.
    pub fn find(&self, model: &str, version: &str) -> Result<&Arc<Served>, Error> {
        let versions = self.models.get(model).ok_or_else(|| Error::UnknownModel {
            model: model.to_owned(),
        })?;
        let not_ready = |version: u64, reason: &str| Error::NotReady {
            model: model.to_owned(),
            version,
            reason: reason.to_owned(),
        };
        if version.is_empty() {
            return match (
                versions.ready().next_back(),
                versions.not_ready().next_back(),
            ) {
                (Some(served), _) => Ok(served),
                (None, Some((version, reason))) => Err(not_ready(version, &reason)),
                (None, None) => Err(Error::UnknownModel {
                    model: model.to_owned(),
                }),
            };
        }
        let number: u64 = version.parse().map_err(|_| Error::InvalidVersion {
            model: model.to_owned(),
            version: version.to_owned(),
        })?;
        if let Some((_, reason)) = versions.not_ready().find(|(version, _)| *version == number) {
            return Err(not_ready(number, &reason));
        }
        versions
            .loaded
            .get(&number)
            .ok_or_else(|| Error::UnknownVersion {
                model: model.to_owned(),
                version: version.to_owned(),
            })
    }

    /// Finds a version for a request, as [`find`](Self::find) does; or else one that could not be brought
    /// back into memory some time ago, which the request has tried again.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn find_for_request(&self, model: &str, version: &str) -> Result<&Arc<Served>, Error> {
        self.find(model, version).or_else(|error| {
            let now = Instant::now();
            let loaded = self.models.get(model).map(|versions| &versions.loaded);
            let mut asked = loaded.into_iter().flat_map(BTreeMap::values).rev();
            let again = asked.find(|served| {
                let is_asked = version.is_empty() || version == served.version.to_string();
                is_asked && served.may_be_tried(now)
            });
            again.ok_or(error)
        })
    }

    /// Returns what weights hold in memory.
    pub fn weights(&self) -> Usage {
        self.residency.usage()
    }

    /// Returns the versions of a model that are ready.
    pub fn versions(&self, model: &str) -> Vec<u64> {
        let versions = self.models.get(model);
        versions.map_or_else(Vec::new, |versions| {
            versions.ready().map(|served| served.version).collect()
        })
    }

    /// Returns every version of every model that loaded, whether it takes requests now or not.
    pub fn loaded(&self) -> impl Iterator<Item = &Arc<Served>> {
        let models = self.models.values();
        models.flat_map(|versions| versions.loaded.values())
    }

    /// Returns the version that a request asks for, of those that loaded, whether it takes requests now or
    /// not.
    pub fn asked_for(&self, model: &str, version: &str) -> Option<&Arc<Served>> {
        let loaded = &self.models.get(model)?.loaded;
        match version.is_empty() {
            true => loaded.values().next_back(),
            false => loaded.get(&version.parse().ok()?),
        }
    }

    /// Returns every version of every model that is ready.
    pub fn ready(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.models.values().flat_map(Versions::ready)
    }

    /// Returns the queues of the models that loaded.
    pub fn queues(&self) -> Vec<Arc<Scheduler>> {
        self.loaded()
            .map(|served| Arc::clone(&served.scheduler))
            .collect()
    }

    /// Returns the devices that models run on, each once.
    pub fn devices(&self) -> Vec<AnyDevice> {
        let used = self.ready().flat_map(|served| served.devices.clone());
        place::distinct(&used.collect::<Vec<_>>())
    }

    /// Returns whether every model loaded, and can run.
    pub fn all_ready(&self) -> bool {
        let mut models = self.models.values();
        models.all(|versions| versions.not_ready().next().is_none())
    }

    /// Lists the models and their states.
    pub fn index(&self, only_ready: bool) -> Vec<ModelIndex> {
        let mut index = Vec::new();
        for (name, versions) in &self.models {
            let entry = |version: u64, state: &str, reason: &str| ModelIndex {
                name: name.clone(),
                version: if version == 0 {
                    String::new()
                } else {
                    version.to_string()
                },
                state: state.to_owned(),
                reason: reason.to_owned(),
            };
            let ready = versions.ready();
            index.extend(ready.map(|served| entry(served.version, "READY", "")));
            if !only_ready {
                let not_ready = versions.not_ready();
                index.extend(
                    not_ready.map(|(version, reason)| entry(version, "UNAVAILABLE", &reason)),
                );
            }
        }
        index
    }

    /// Lets the models finish what is queued, and ends their threads. Blocks until they have.
    pub fn close(&self) {
        self.loaded().for_each(|served| served.scheduler.close());
        // Whoever waits for weights is answered first.
        self.residency.close();
        self.loaded().for_each(|served| served.join());
    }
}

impl Versions {
    /// Returns the versions that take requests, in order.
    fn ready(&self) -> impl DoubleEndedIterator<Item = &Arc<Served>> {
        let loaded = self.loaded.values();
        loaded.filter(|served| served.failure().is_none())
    }

    /// Returns the versions that do not, and why: first those that did not load.
    fn not_ready(&self) -> impl DoubleEndedIterator<Item = (u64, Cow<'_, str>)> {
        let failed = self.failed.iter();
        let failed = failed.map(|(&version, reason)| (version, Cow::from(reason)));
        let lost = self.loaded.iter().filter_map(|(&version, served)| {
            let reason = served.failure()?;
            Some((version, Cow::from(reason)))
        });
        failed.chain(lost)
    }

    fn load(entry: &crate::repository::ModelEntry, loader: &Loader) -> Self {
        let mut versions = Self::default();
        for version in &entry.versions {
            match loader.load(entry, version) {
                Ok(served) => {
                    tracing::info!(model = %served.name, version = version.number, "model is ready");
                    versions.loaded.insert(version.number, served);
                }
                Err(error) => {
                    let (model, reason) = (&entry.settings.name, error.to_string());
                    tracing::error!(%model, version = version.number, %reason, "model did not load");
                    versions.failed.insert(version.number, reason);
                }
            }
        }
        versions
    }
}
