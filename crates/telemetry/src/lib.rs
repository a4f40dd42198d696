//! Logs, traces and metrics, the same in every process.
//!
//! Spans always have ids, exporter or not: the execution trace in every answer names them. They leave the process
//! over OTLP only when the standard `OTEL_EXPORTER_OTLP_*` variables name a collector. An unreachable collector costs
//! a call nothing: the batch processor's queue is bounded and it drops what does not fit.

mod context;
pub mod metrics;

use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use context::{inject, set_parent, span_id, trace_id};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter that the `OTEL_*` variables ask for cannot be built.
    #[error("OTEL_EXPORTER_OTLP_*: the exporter cannot be built: {0}")]
    Exporter(String),
    /// Another subscriber is installed in this process.
    #[error("a tracing subscriber is installed already: {0}")]
    Installed(String),
}

/// What keeps telemetry alive; shut it down to flush.
pub struct Telemetry {
    provider: SdkTracerProvider,
    exporting: bool,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("exporting", &self.exporting).finish_non_exhaustive()
    }
}

/// Sets up logs on standard error, traces and metrics for this process. `RUST_LOG` chooses what is logged (default `default_level`).
/// Must be called inside a tokio runtime: the OTLP exporter's connection lives there.
pub fn init(service: &'static str, format: LogFormat, default_level: &str) -> Result<Telemetry, TelemetryError> {
    metrics::install(service);
    let exporter = exporter()?;
    let exporting = exporter.is_some();
    let builder = SdkTracerProvider::builder().with_resource(resource(service));
    let builder = match exporter {
        Some(exporter) => builder.with_batch_exporter(exporter),
        // Nobody will look at the spans, only at their ids; and only a caller who does record hears that we do.
        None => builder.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff))),
    };
    let provider = builder.build();
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{default_level},h2=warn,hyper=warn,opentelemetry=warn")));
    // Hop spans are for traces. In a log line they would repeat what its own fields say.
    let filter = match "hop=off".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let logs = match format {
        LogFormat::Text => logs.boxed(),
        LogFormat::Json => logs.json().with_current_span(true).with_span_list(false).boxed(),
    };
    // Only our own hops are spans for OTLP; the h2 and hyper crates emit one per frame.
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("switchboard"))
        .with_location(false)
        .with_threads(false)
        // A span is entered at each poll of what it covers, for a stream at each event: how long it was busy, and
        // OpenTelemetry's own idea of a current span, nobody here asks for.
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(Targets::new().with_target("hop", LevelFilter::INFO));
    tracing_subscriber::registry()
        .with(logs.with_filter(filter))
        .with(spans)
        .try_init()
        .map_err(|e| TelemetryError::Installed(e.to_string()))?;
    Ok(Telemetry { provider, exporting })
}

impl Telemetry {
    /// Sends what is queued and stops, within `limit`. The flush blocks, so it runs on a thread of its own.
    pub async fn shutdown(self, limit: Duration) {
        if !self.exporting {
            return;
        }
        let provider = self.provider;
        let flush = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit));
        match tokio::time::timeout(limit, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "spans could not all be exported"),
            Ok(Err(_)) | Err(_) => tracing::warn!("spans could not all be exported in time"),
        }
    }
}

fn resource(service: &'static str) -> Resource {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    // `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win: the default detectors read them.
    let resource = Resource::builder().with_attribute(KeyValue::new("host.name", host));
    if std::env::var_os("OTEL_SERVICE_NAME").is_some() { resource } else { resource.with_service_name(service) }.build()
}

/// The exporter that the environment asks for; `None` when it names no collector.
fn exporter() -> Result<Option<SpanExporter>, TelemetryError> {
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    if set("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|v| v == "none")
        || (set("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() && set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_none())
    {
        return Ok(None);
    }
    let protocol = set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| set("OTEL_EXPORTER_OTLP_PROTOCOL"));
    let failed = |e: &dyn fmt::Display| TelemetryError::Exporter(e.to_string());
    match protocol.as_deref() {
        None | Some("grpc") => SpanExporter::builder().with_tonic().build().map(Some).map_err(|e| failed(&e)),
        // The HTTP client is a blocking one and must not be made on an async thread.
        Some("http/protobuf") => std::thread::spawn(|| SpanExporter::builder().with_http().build())
            .join()
            .map_err(|_| failed(&"its thread failed"))?
            .map(Some)
            .map_err(|e| failed(&e)),
        Some(other) => Err(failed(&format!("OTEL_EXPORTER_OTLP_PROTOCOL={other}: use grpc or http/protobuf"))),
    }
}
