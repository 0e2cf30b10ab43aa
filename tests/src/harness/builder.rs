//! Settings of a [`TestServer`].

use std::time::Duration;

use bytesize::ByteSize;
use forebay_server::{config::Config, device, executor, telemetry::Tracer};

use super::{TestRepository, TestServer};
use crate::models::Fixture;

/// Settings of a [`TestServer`]: the server's defaults, with one thread per libtorch operation and a
/// short warm-up.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    pub(super) config: Config,
    pub(super) repository: TestRepository,
    pub(super) tracer: Tracer,
}

impl Default for Builder {
    fn default() -> Self {
        let mut config = Config::default();
        config.scheduler.intra_op_threads = 1;
        // Most tests serve little, and a full warm-up of each of their servers would cost more.
        config.registry.warmup_timeout = Duration::from_millis(50);
        Self {
            config,
            repository: TestRepository::default(),
            tracer: Tracer::default(),
        }
    }
}

impl Builder {
    /// Serves fixture models.
    pub fn with_fixtures(mut self, fixtures: &[Fixture]) -> Self {
        self.repository = self.repository.with_fixtures(fixtures);
        self
    }

    /// Serves a model of the test's own; see [`TestRepository::with_model`].
    pub fn with_model(mut self, name: &str, config: &str, module: Option<&[u8]>) -> Self {
        self.repository = self.repository.with_model(name, config, module);
        self
    }

    /// Serves the models of `repository`, instead of those so far.
    pub fn with_repository(mut self, repository: TestRepository) -> Self {
        self.repository = repository;
        self
    }

    /// Changes the configuration.
    pub fn with_config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Sets the bytes that requests and replies may hold together, and no message may be larger.
    pub fn with_host_bytes(self, bytes: u64) -> Self {
        self.with_config(|config| {
            let admission = &mut config.admission;
            admission.host_bytes = ByteSize(bytes);
            admission.max_message_bytes = admission.max_message_bytes.min(ByteSize(bytes));
        })
    }

    /// Sets how long a message may stand still.
    pub fn with_progress_timeout(self, timeout: Duration) -> Self {
        self.with_config(|config| config.admission.progress_timeout = timeout)
    }

    /// Sets how long calls may go on at shutdown.
    pub fn with_drain_timeout(self, timeout: Duration) -> Self {
        self.with_config(|config| config.transport.drain_timeout = timeout)
    }

    /// Runs models on the simulated device, whose stages take at least these times.
    pub fn with_simulated(self, h2d: Duration, compute: Duration, d2h: Duration) -> Self {
        self.with_config(|config| {
            config.device = device::Config {
                kind: device::Kind::Simulated,
                h2d,
                compute,
                d2h,
                ..device::Config::default()
            };
        })
    }

    /// Sets whether batches run through the stages.
    pub fn with_mode(self, mode: executor::Mode) -> Self {
        self.with_config(|config| config.executor.mode = mode)
    }

    /// Records the stages of requests with `tracer`.
    pub fn with_tracer(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// Starts the server on a port of its own, with every model loaded that can be.
    ///
    /// # Panics
    /// The configuration is wrong, or the server does not start.
    pub async fn start(self) -> TestServer {
        TestServer::launch(self).await
    }
}
