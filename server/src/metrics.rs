//! Figures of what the server does and holds, for a collector of OpenTelemetry metrics.
//!
//! Nothing is counted here. When figures are due, the instruments read the snapshots that the parts
//! give of themselves, one of each: budget, queues, statistics, store.
//!
//! Invariant: nothing here runs on the path of a request, and a collector that is slow or gone costs
//! figures only.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use forebay_spill::Store;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{Instrument, PeriodicReader, SdkMeterProvider, Stream},
};

use crate::{admission::Budget, registry::Registry};

mod figure;
mod host;
mod model;
mod snapshots;
mod spill;

use snapshots::Snapshots;

/// Sends figures to a collector, from time to time.
///
/// It holds the parts that it reads until it has [ended](Self::end).
#[derive(Debug)]
pub struct Exporter(SdkMeterProvider);

impl Exporter {
    /// Exports to `endpoint` every `interval`, in the name of `resource`. Call it inside the tokio
    /// runtime.
    ///
    /// # Errors
    /// The endpoint is not one.
    pub fn start(
        endpoint: &str,
        interval: Duration,
        resource: Resource,
    ) -> Result<Self, ExporterBuildError> {
        let exporter = MetricExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()?;
        let reader = PeriodicReader::builder(exporter).with_interval(interval);
        // It has the most points for each version, four, and the SDK drops what is beyond 2,000.
        let stages = |instrument: &Instrument| {
            let wide = Stream::builder().with_cardinality_limit(8000);
            (instrument.name() == model::STAGE_TIME).then(|| wide.build().ok())?
        };
        let provider = SdkMeterProvider::builder()
            .with_reader(reader.build())
            .with_view(stages)
            .with_resource(resource);
        Ok(Self(provider.build()))
    }

    /// Returns what parts of the server are shown with.
    pub fn metrics(&self) -> Metrics {
        Metrics(Some(self.0.meter("forebay")))
    }

    /// Begins to send the last figures.
    pub fn end(self) -> Ending {
        let (done, outcome) = mpsc::sync_channel(1);
        // The provider waits for as long as it likes, so a thread of our own does it.
        let end = move || {
            let sent = self.0.shutdown();
            // Nobody may be waiting any more.
            let _unwanted = done.send(sent);
        };
        // Without a thread, the end of the channel tells that nothing was sent.
        let _detached = thread::Builder::new().name("fb-figures".into()).spawn(end);
        Ending(outcome)
    }
}

/// The last figures, on their way.
#[derive(Debug)]
pub struct Ending(Receiver<OTelSdkResult>);

impl Ending {
    /// Waits until they are sent, up to `until`. Returns whether they were. Blocks.
    pub fn wait(self, until: Instant) -> bool {
        let patience = until.saturating_duration_since(Instant::now());
        matches!(self.0.recv_timeout(patience), Ok(Ok(())))
    }
}

/// Shows parts of the server to a collector; to nobody where there is none.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Option<Meter>);

impl Metrics {
    /// Shows the budget of host memory.
    pub fn observe_host(&self, budget: Budget) {
        self.observe(host::FIGURES, move || host::Snapshot::of(&budget));
    }

    /// Shows each version of each model that loaded, also once it takes no requests any more.
    pub fn observe_models(&self, registry: Arc<Registry>) {
        self.observe(model::FIGURES, move || {
            registry
                .loaded()
                .map(|one| model::Snapshot::of(one))
                .collect()
        });
    }

    /// Shows the store for what overflows memory.
    pub fn observe_spill(&self, store: Store) {
        self.observe(spill::FIGURES, move || store.stats());
    }

    fn observe<S: Send + Sync + 'static>(
        &self,
        figures: &'static [figure::Figure<S>],
        snapshot: impl Fn() -> S + Send + Sync + 'static,
    ) {
        let Some(meter) = &self.0 else {
            return;
        };
        let snapshots = Snapshots::new(snapshot);
        for figure in figures {
            figure.register(meter, snapshots.reader());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn operators_are_told_of_every_figure_and_its_unit() {
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let manual = fs::read_to_string(manual).unwrap();
        let host = host::FIGURES.iter().map(|one| (one.name, one.unit));
        let model = model::FIGURES.iter().map(|one| (one.name, one.unit));
        let spill = spill::FIGURES.iter().map(|one| (one.name, one.unit));
        for (name, unit) in host.chain(model).chain(spill) {
            let row = format!("| `{name}` | {unit} |");
            assert!(manual.contains(&row), "docs/operations.md has no row {row}");
        }
    }
}
