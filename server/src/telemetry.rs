//! Logs, traces, and where figures go.
//!
//! Every request that is queued has a span `infer`, in the caller's trace where the call brings a W3C
//! `traceparent`. Its children `admit`, `queue`, `h2d`, `compute` and `d2h` are made once the
//! request is answered, from the same [`Timings`](crate::request::Timings) as the statistics: they
//! show when a stage ran on the device, not when a thread enqueued it. Where its tensors went to disk,
//! `queue` has the children `parked` and `onboard`.
//!
//! Invariant: nothing here waits for a collector on the path of a request. Spans beyond the
//! exporter's queue are dropped; OpenTelemetry logs that it begins to, and how many they were in the end.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use http::{HeaderMap, Uri, uri::Scheme};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{TraceContextExt, TracerProvider as _},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::metrics::{self, Metrics};

#[cfg(test)]
mod captured;
mod request_span;

#[cfg(test)]
pub(crate) use captured::captured;
pub use request_span::RequestSpan;

/// The section `[telemetry]` of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is logged, as `tracing` filters are written. Defaults to `info`.
    pub log: String,
    /// Where traces and figures go by OTLP over gRPC, such as `http://127.0.0.1:4317`. Absent or
    /// empty: nowhere.
    pub otlp_endpoint: Option<String>,
    /// How often figures go there. Defaults to 10 s; 0 means never.
    #[serde(with = "humantime_serde")]
    pub metrics_interval: Duration,
}

impl Config {
    /// Returns every fault, each naming its key; none if the section is usable.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(error) = self.filter() {
            faults.push(error.to_string());
        }
        if let Some(endpoint) = self.endpoint()
            && !can_be_exported_to(endpoint)
        {
            faults.push(format!(
                "telemetry.otlp_endpoint: '{endpoint}' is no endpoint without TLS; write one such as \"http://127.0.0.1:4317\""
            ));
        }
        faults
    }

    fn filter(&self) -> Result<EnvFilter, Error> {
        let filter = EnvFilter::builder().parse(&self.log);
        filter.map_err(|source| Error::Filter {
            filter: self.log.clone(),
            source,
        })
    }

    /// Returns where to export to. Empty is nowhere, and not where OpenTelemetry would go by itself.
    fn endpoint(&self) -> Option<&str> {
        let endpoint = self.otlp_endpoint.as_deref();
        endpoint.filter(|endpoint| !endpoint.is_empty())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            otlp_endpoint: None,
            metrics_interval: Duration::from_secs(10),
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
        source: ExporterBuildError,
    },
    /// Another subscriber is installed.
    #[error("a tracing subscriber is installed already")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
}

/// The telemetry of a process. Dropping it does not flush; see [`shutdown`](Self::shutdown).
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    figures: Option<metrics::Exporter>,
}

impl Telemetry {
    /// Installs logging to standard error and, with an endpoint, the export of traces and
    /// figures. Call it inside the tokio runtime.
    ///
    /// # Errors
    /// The filter or the endpoint is wrong, or a subscriber is installed already.
    pub fn install(config: &Config) -> Result<Self, Error> {
        let filter = config.filter()?;
        let endpoint = config.endpoint();
        let provider = endpoint.map(exporting_to).transpose()?;
        let interval = config.metrics_interval;
        let figures = endpoint
            .filter(|_| !interval.is_zero())
            .map(|endpoint| {
                metrics::Exporter::start(endpoint, interval, resource())
                    .map_err(|source| unreachable_at(endpoint, source))
            })
            .transpose()?;
        let log = tracing_subscriber::fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
            .with_filter(filter);
        tracing_subscriber::registry()
            .with(log)
            .try_init()
            .map_err(Error::Installed)?;
        Ok(Self { provider, figures })
    }

    /// Returns what the stages of requests are recorded with.
    pub fn tracer(&self) -> Tracer {
        Tracer(
            self.provider
                .as_ref()
                .map(|provider| provider.tracer("forebay")),
        )
    }

    /// Returns what parts of the server are shown with.
    pub fn metrics(&self) -> Metrics {
        let figures = self.figures.as_ref();
        figures.map(metrics::Exporter::metrics).unwrap_or_default()
    }

    /// Sends what is left, for at most `patience`. Blocks; call it off the async workers.
    pub fn shutdown(self, patience: Duration) {
        let until = Instant::now() + patience;
        let figures = self.figures.map(metrics::Exporter::end);
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown_with_timeout(patience)
        {
            tracing::warn!(%error, "some spans were not exported");
        }
        if figures.is_some_and(|figures| !figures.wait(until)) {
            tracing::warn!("the last figures were not exported");
        }
    }
}

fn exporting_to(endpoint: &str) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|source| unreachable_at(endpoint, source))?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource())
        .build())
}

/// Returns whether the exporter could take it: there is no TLS in it.
fn can_be_exported_to(endpoint: &str) -> bool {
    let uri = endpoint.parse::<Uri>();
    endpoint.starts_with("unix:") || uri.is_ok_and(|uri| uri.scheme() != Some(&Scheme::HTTPS))
}

fn resource() -> Resource {
    Resource::builder().with_service_name("forebay").build()
}

fn unreachable_at(endpoint: &str, source: ExporterBuildError) -> Error {
    Error::Exporter {
        endpoint: endpoint.to_owned(),
        source,
    }
}

/// Makes the spans of requests; none where traces go nowhere.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<SdkTracer>);

impl Tracer {
    /// Begins the span of a request that arrived at `arrived`. `attributes` describe it.
    pub fn begin_request<const N: usize>(
        &self,
        parent: &Parent,
        arrived: Instant,
        attributes: impl FnOnce() -> [KeyValue; N],
    ) -> RequestSpan {
        let Some(tracer) = self.0.clone() else {
            return RequestSpan::default();
        };
        let parent = parent.0.clone().unwrap_or_default();
        RequestSpan::begin(tracer, parent, arrived, attributes().into())
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
}
