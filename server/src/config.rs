//! The server's configuration: defaults, then a TOML file, then the environment
//! (`FOREBAY__SECTION__KEY`), then flags.
//!
//! Invariant: an unknown key is an error, and all values that are wrong are reported at once.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

use crate::{admission, device, executor, overflow, registry, telemetry, transport};

/// The whole configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the server listens. Defaults to `127.0.0.1:8001`.
    pub listen: SocketAddr,
    /// The folder of models.
    pub model_repository: PathBuf,
    /// Connections.
    pub transport: transport::Config,
    /// Memory for requests.
    pub admission: admission::Config,
    /// Disks for what overflows that memory.
    pub spill: overflow::Config,
    /// Queues.
    pub scheduler: Scheduler,
    /// Models.
    pub registry: registry::Config,
    /// The pipeline.
    pub executor: executor::Config,
    /// Where models run.
    pub device: device::Config,
    /// Logs and traces.
    pub telemetry: telemetry::Config,
}

/// The section `[scheduler]`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scheduler {
    /// Requests of one version of a model that may wait, where its configuration does not say.
    /// Defaults to 16384; the budget in bytes is what bounds memory.
    pub max_queue_items: usize,
    /// Requests of one stream that may be queued, run, or have an answer that was not read yet.
    /// Defaults to 256; a stream with so many is not read until answers are.
    pub max_stream_items: usize,
    /// libtorch's threads within one operation. 0, the default, divides the cores by all instances,
    /// of all versions of all models.
    pub intra_op_threads: usize,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            max_queue_items: 16_384,
            max_stream_items: 256,
            intra_op_threads: 0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8001)),
            model_repository: PathBuf::new(),
            transport: transport::Config::default(),
            admission: admission::Config::default(),
            spill: overflow::Config::default(),
            scheduler: Scheduler::default(),
            registry: registry::Config::default(),
            executor: executor::Config::default(),
            device: device::Config::default(),
            telemetry: telemetry::Config::default(),
        }
    }
}

/// What flags override.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--model-repository`
    pub model_repository: Option<PathBuf>,
}

/// The configuration is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A source cannot be read, or holds a key or value that is not known.
    #[error("the configuration cannot be read: {0}")]
    Read(#[source] Box<figment::Error>),
    /// Values that do not go together.
    #[error("the configuration is wrong:\n  {}", .0.join("\n  "))]
    Invalid(Vec<String>),
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// A source cannot be read, or values are wrong; all faults are told.
    pub fn read(file: Option<&Path>, overrides: Overrides) -> Result<Self, Error> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let mut config: Self = figment
            .merge(Env::prefixed("FOREBAY__").split("__"))
            .extract()
            .map_err(|error| Error::Read(Box::new(error)))?;
        let Overrides {
            listen,
            model_repository,
        } = overrides;
        config.listen = listen.unwrap_or(config.listen);
        config.model_repository = model_repository.unwrap_or(config.model_repository);
        match config.validate() {
            faults if faults.is_empty() => Ok(config),
            faults => Err(Error::Invalid(faults)),
        }
    }

    fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.model_repository.as_os_str().is_empty() {
            faults.push("model_repository: missing; pass --model-repository DIR".to_owned());
        }
        for (key, value) in [
            ("max_queue_items", self.scheduler.max_queue_items),
            ("max_stream_items", self.scheduler.max_stream_items),
        ] {
            if value == 0 {
                faults.push(format!("scheduler.{key}: must be at least 1"));
            }
        }
        faults.extend(self.transport.validate());
        faults.extend(self.admission.validate());
        faults.extend(self.spill.validate());
        faults.extend(self.registry.validate());
        faults.extend(self.device.validate());
        faults.extend(self.telemetry.validate());
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(toml: &str) -> Result<Config, Error> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("forebay.toml");
        fs::write(&file, toml).unwrap();
        let overrides = Overrides {
            model_repository: Some("models".into()),
            ..Overrides::default()
        };
        Config::read(Some(&file), overrides)
    }

    #[test]
    fn defaults_are_valid() {
        read("").unwrap();
    }

    #[test]
    fn units_are_read() {
        let config =
            read("[device]\nkind = \"simulated\"\ncompute = \"20ms\"\nbandwidth = \"2 GiB\"\n")
                .unwrap();
        assert_eq!(config.device.compute.as_millis(), 20);
        assert_eq!(config.device.bandwidth.unwrap().as_u64(), 2 << 30);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = read("[executor]\npipeline_dept = 2\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("pipeline_dept"), "{error}");
    }

    #[test]
    fn where_telemetry_goes_is_looked_at_with_the_rest() {
        for endpoint in ["https://collector:4317", "http://[::1"] {
            let faults =
                format!("[telemetry]\nlog = \"server=loud\"\notlp_endpoint = \"{endpoint}\"\n");
            let error = read(&faults).unwrap_err().to_string();
            for key in ["telemetry.log", "telemetry.otlp_endpoint"] {
                assert!(error.contains(key), "{error}");
            }
        }
        for endpoint in ["", "http://collector:4317", "unix:///run/collector"] {
            read(&format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\n")).unwrap();
        }
    }

    #[test]
    fn weights_that_may_leave_memory_need_a_bound() {
        let error = read("[registry]\nmodel_residency = \"lru\"\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("registry.weights_bytes"), "{error}");
        let text = "[registry]\nmodel_residency = \"lru\"\nweights_bytes = \"1 GiB\"\n";
        assert_eq!(read(text).unwrap().registry.weights_budget(), Some(1 << 30));
    }

    #[test]
    fn all_faults_are_told() {
        let error = read("[scheduler]\nmax_queue_items = 0\nmax_stream_items = 0\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("max_queue_items") && error.contains("max_stream_items"),
            "{error}"
        );
    }
}
