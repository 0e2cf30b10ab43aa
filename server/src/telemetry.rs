//! Logs and traces.
//!
//! Every request has a span `infer`, in the caller's trace where the call brings a W3C
//! `traceparent`. Its children `admit`, `queue`, `h2d`, `compute` and `d2h` are made once the
//! request is answered, from the same [`Timings`] as the statistics: they show when a stage ran on
//! the device, not when a thread enqueued it.
//!
//! Invariant: nothing here waits for a collector on the path of a request. Spans beyond the
//! exporter's queue are dropped.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant, SystemTime},
};

use http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{Span as _, SpanBuilder, SpanKind, TraceContextExt, Tracer as _, TracerProvider as _},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::request::Timings;

/// The section `[telemetry]` of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is logged, as `tracing` filters are written. Defaults to `info`.
    pub log: String,
    /// Where traces go by OTLP over gRPC, such as `http://127.0.0.1:4317`. Absent: nowhere.
    pub otlp_endpoint: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            otlp_endpoint: None,
        }
    }
}

/// Telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one.
    #[error(
        "telemetry.log: '{filter}' is not a filter; write a level such as \"info\", or \"warn,forebay_server=debug\""
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The exporter does not start.
    #[error("telemetry.otlp_endpoint: cannot export to '{endpoint}'")]
    Exporter {
        /// The endpoint.
        endpoint: String,
        /// Why not.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// Another subscriber is installed.
    #[error("a tracing subscriber is installed already")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
}

/// The telemetry of a process. Dropping it does not flush; see [`shutdown`](Self::shutdown).
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Installs logging to standard error and, with an endpoint, the export of traces. Call it
    /// inside the tokio runtime.
    ///
    /// # Errors
    /// The filter or the endpoint is wrong, or a subscriber is installed already.
    pub fn install(config: &Config) -> Result<Self, Error> {
        let filter = EnvFilter::builder()
            .parse(&config.log)
            .map_err(|source| Error::Filter {
                filter: config.log.clone(),
                source,
            })?;
        let provider = config
            .otlp_endpoint
            .as_deref()
            .map(exporting_to)
            .transpose()?;
        let spans = provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("forebay"))
                .with_filter(tracing_subscriber::filter::LevelFilter::INFO)
        });
        let log = tracing_subscriber::fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
            .with_filter(filter);
        tracing_subscriber::registry()
            .with(spans)
            .with(log)
            .try_init()
            .map_err(Error::Installed)?;
        Ok(Self { provider })
    }

    /// Returns what the stages of requests are recorded with.
    pub fn tracer(&self) -> Tracer {
        Tracer(
            self.provider
                .as_ref()
                .map(|provider| provider.tracer("forebay")),
        )
    }

    /// Sends what is left, for at most `patience`. Blocks; call it off the async workers.
    pub fn shutdown(self, patience: Duration) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown_with_timeout(patience)
        {
            tracing::warn!(%error, "some spans were not exported");
        }
    }
}

fn exporting_to(endpoint: &str) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|source| Error::Exporter {
            endpoint: endpoint.to_owned(),
            source,
        })?;
    let resource = Resource::builder().with_service_name("forebay").build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

/// Records the stages of requests as spans; does nothing where traces go nowhere.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<SdkTracer>);

impl Tracer {
    /// Adds the stages of an answered request to its span.
    pub fn record_stages(&self, infer: &Span, timings: &Timings) {
        let Some(tracer) = &self.0 else {
            return;
        };
        let context = infer.context();
        let (now, wall) = (Instant::now(), SystemTime::now());
        let at = |instant: Instant| wall - now.saturating_duration_since(instant);
        let record = |name: &'static str, from: SystemTime, until: SystemTime| {
            let builder: SpanBuilder = tracer
                .span_builder(name)
                .with_kind(SpanKind::Internal)
                .with_start_time(from);
            tracer
                .build_with_context(builder, &context)
                .end_with_timestamp(until);
        };
        record("admit", at(timings.arrived), at(timings.queued));
        if let Some(batched) = timings.batched {
            record("queue", at(timings.queued), at(batched));
        }
        if let Some(stages) = &timings.stages {
            // The device tells how long a stage took. They end back to back with the last one.
            let ended = at(stages.ended);
            let computed = ended - stages.d2h;
            let uploaded = computed - stages.compute;
            record("h2d", uploaded - stages.h2d, uploaded);
            record("compute", uploaded, computed);
            record("d2h", computed, ended);
        }
    }
}

/// The caller's trace, as the headers of a call tell it.
#[derive(Debug, Clone, Default)]
pub struct Parent(Option<Context>);

impl Parent {
    /// Reads `traceparent` and `tracestate`.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        struct Headers<'a>(&'a HeaderMap);
        impl Extractor for Headers<'_> {
            fn get(&self, key: &str) -> Option<&str> {
                self.0.get(key)?.to_str().ok()
            }
            fn keys(&self) -> Vec<&str> {
                self.0.keys().map(http::HeaderName::as_str).collect()
            }
        }
        if !headers.contains_key("traceparent") {
            return Self(None);
        }
        let context = TraceContextPropagator::new().extract(&Headers(headers));
        Self(context.span().span_context().is_valid().then_some(context))
    }

    /// Makes `span` a child of the caller's.
    pub fn adopt(&self, span: &Span) {
        if let Some(context) = &self.0 {
            // Without an exporter there is no layer to tell, and that is all that can go wrong.
            let _untold = span.set_parent(context.clone());
        }
    }
}
