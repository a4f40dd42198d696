//! A stand-in for an OpenTelemetry collector: takes spans over OTLP/gRPC and keeps them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use service_kit::{Bound, Mounted, ServeOptions, serve};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::canary::Text;
use crate::eventually;

/// A span as a process exported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of the process.
    pub process: String,
    /// `switchboard.service` where it is given, else the process.
    pub service: String,
    /// Its name.
    pub name: String,
    /// `server`, `client`, `internal`, …
    pub kind: String,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// 16 hexadecimal digits; empty for a root.
    pub parent_id: String,
    /// Unix nanoseconds.
    pub start_ns: u64,
    /// Unix nanoseconds.
    pub end_ns: u64,
    /// True if its status is an error.
    pub failed: bool,
    /// Attributes as text.
    pub attributes: BTreeMap<String, String>,
}

/// A collector on a free port. It stops when dropped.
#[derive(Debug)]
pub struct Collector {
    endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
    exports: Text,
    _stop: DropGuard,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let bound = Bound::bind(&"127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
        let endpoint = format!("http://{}", bound.address().expect("an address"));
        let (spans, exports) = (Arc::default(), Text::default());
        let service = Service { spans: Arc::clone(&spans), exports: Arc::clone(&exports) };
        let router = Mounted::new().add(TraceServiceServer::new(service)).router();
        let stop = CancellationToken::new();
        // Ends with the token, which the handle holds.
        drop(TaskTracker::new().spawn(serve(router, bound, ServeOptions::default(), stop.clone())));
        Self { endpoint, spans, exports, _stop: stop.drop_guard() }
    }

    /// Everything that was exported, whole, as text.
    pub(crate) fn exports(&self) -> &Text {
        &self.exports
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Everything that came so far, in order of start.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone();
        spans.sort_by_key(|span| span.start_ns);
        spans
    }

    /// The spans of one trace, in order of start.
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace_id == trace_id).collect()
    }

    /// Waits until a trace is such as `complete` wants it; gives its spans in order of start. Processes export in
    /// batches, each on its own time.
    pub async fn wait_for(&self, trace_id: &str, complete: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let what = format!("trace {trace_id} came whole");
        eventually(&what, || complete(&self.trace(trace_id))).await;
        self.trace(trace_id)
    }
}

impl Span {
    /// An attribute; empty if it is not there.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// Whether all spans but one have their parent among `spans`: one tree, nothing lost.
    pub fn are_one_tree(spans: &[Span]) -> bool {
        let has_parent = |span: &&Span| spans.iter().any(|other| other.span_id == span.parent_id);
        !spans.is_empty() && spans.iter().filter(has_parent).count() + 1 == spans.len()
    }
}

struct Service {
    spans: Arc<Mutex<Vec<Span>>>,
    exports: Text,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let whole = format!("{:?}", request.get_ref());
        self.exports.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(whole.as_bytes());
        let mut all = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| texts(resource.attributes)).unwrap_or_default();
            let process = attributes.get("service.name").cloned().unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            all.extend(spans.map(|span| taken(span, &process)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn taken(span: otlp::Span, process: &str) -> Span {
    let attributes = texts(span.attributes);
    let kind = otlp::span::SpanKind::try_from(span.kind).map(|kind| kind.as_str_name()).unwrap_or_default();
    let failed = span.status.is_some_and(|status| status.code == otlp::status::StatusCode::Error as i32);
    Span {
        process: process.to_owned(),
        service: attributes.get("switchboard.service").cloned().unwrap_or_else(|| process.to_owned()),
        name: span.name,
        kind: kind.trim_start_matches("SPAN_KIND_").to_lowercase(),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        failed,
        attributes,
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|KeyValue { key, value, .. }| (key, value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use tonic::transport::Endpoint;

    use super::*;

    fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    fn span(id: u8, parent: &[u8], start: u64) -> otlp::Span {
        otlp::Span {
            trace_id: vec![0xab; 16],
            span_id: vec![id; 8],
            parent_span_id: parent.to_vec(),
            name: format!("span {id}"),
            kind: otlp::span::SpanKind::Server as i32,
            start_time_unix_nano: start,
            attributes: vec![
                attribute("switchboard.service", Value::StringValue("auth-svc".into())),
                attribute("n", Value::IntValue(7)),
            ],
            ..otlp::Span::default()
        }
    }

    #[tokio::test]
    async fn spans_are_kept_by_trace() {
        let collector = Collector::start().await;
        let channel = Endpoint::from_shared(collector.endpoint()).expect("an address").connect_lazy();
        let scope =
            otlp::ScopeSpans { spans: vec![span(2, &[1; 8], 20), span(1, &[], 10)], ..otlp::ScopeSpans::default() };
        let resource = Resource {
            attributes: vec![attribute("service.name", Value::StringValue("switchboard".into()))],
            ..Resource::default()
        };
        let spans = otlp::ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![scope],
            ..otlp::ResourceSpans::default()
        };
        let request = ExportTraceServiceRequest { resource_spans: vec![spans] };
        TraceServiceClient::new(channel).export(request).await.expect("taken");

        let trace = collector.wait_for(&"ab".repeat(16), Span::are_one_tree).await;
        let [root, child] = trace.as_slice() else { panic!("{trace:?}") };
        assert_eq!((root.name.as_str(), child.parent_id.as_str()), ("span 1", root.span_id.as_str()));
        assert_eq!((root.process.as_str(), root.service.as_str()), ("switchboard", "auth-svc"));
        assert_eq!((root.kind.as_str(), root.attribute("n"), root.failed), ("server", "7", false));
        assert!(!Span::are_one_tree(&[]) && collector.trace("other").is_empty());
    }
}
