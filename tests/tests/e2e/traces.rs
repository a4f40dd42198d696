//! The execution trace in the answer and the exported spans tell the same story.

use std::collections::BTreeMap;

use e2e::{Collector, Span, Switchboard, Topology};
use serde_json::Value;

use crate::support::{World, call, streamed, trace_of, whole};

const SERVICES: [&str; 5] = ["gateway", "router-svc", "auth-svc", "transport-svc", "upstream"];

/// A deployment that exports its spans.
async fn traced(topology: Topology) -> (World, Collector, Switchboard) {
    let (world, _) = World::with_login().await;
    let collector = Collector::start().await;
    world.home.export_to(&collector);
    let switchboard = world.start(topology).await;
    (world, collector, switchboard)
}

/// A tree's shape: each span's name and kind below its parent's, whatever process it came from.
fn shape(spans: &[Span]) -> Vec<String> {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let path = |span: &Span| {
        let mut steps = vec![format!("{} {}", span.kind, span.name)];
        let mut at = span;
        while let Some(parent) = by_id.get(at.parent_id.as_str()) {
            steps.push(format!("{} {}", parent.kind, parent.name));
            at = parent;
        }
        steps.reverse();
        steps.join(" > ")
    };
    let mut paths: Vec<String> = spans.iter().map(path).collect();
    paths.sort();
    paths
}

/// True once every hop of the trace has its span.
fn holds(spans: &[Span], trace: &Value) -> bool {
    let hops = trace["hops"].as_array().map(Vec::as_slice).unwrap_or_default();
    Span::are_one_tree(spans) && hops.iter().all(|hop| spans.iter().any(|span| hop["spanId"] == span.span_id.as_str()))
}

/// Compares hop by hop.
#[track_caller]
fn same_story(trace: &Value, spans: &[Span]) {
    let hops = trace["hops"].as_array().expect("hops");
    for hop in hops {
        let span = spans.iter().find(|span| hop["spanId"] == span.span_id.as_str());
        let span = span.unwrap_or_else(|| panic!("no span for the hop {hop}"));
        assert_eq!(hop["service"], span.service.as_str(), "{hop}: {span:?}");
        assert_eq!(hop["outcome"] != "ok", span.failed, "{hop}: {span:?}");
        let expected = match (hop["service"].as_str(), hop["name"].as_str()) {
            (Some("router-svc"), Some("resolve")) => "RouterService/Resolve",
            (Some("auth-svc"), Some("verify_key")) => "BindingService/VerifyKey",
            (Some("auth-svc"), Some("bind")) => "BindingService/Bind",
            (Some("transport-svc"), Some("respond")) => "TransportService/Respond",
            (Some("upstream"), Some(name)) => name,
            (Some("gateway"), Some("call")) => "",
            other => panic!("a hop of an unknown kind: {other:?}"),
        };
        assert!(span.name.ends_with(expected), "{hop}: {span:?}");
        assert!(
            span.end_ns >= span.start_ns && hop["durationUs"].as_f64().is_some_and(|us| us >= 0.0),
            "{hop}: {span:?}"
        );
    }
    for service in SERVICES {
        assert!(hops.iter().any(|hop| hop["service"] == service), "no hop of {service}: {trace}");
        assert!(spans.iter().any(|span| span.service == service), "no span of {service}");
    }
    let starts: Vec<f64> = hops.iter().map(|hop| hop["startUs"].as_f64().expect("a start")).collect();
    assert!(starts.is_sorted(), "hops come in order of start: {starts:?}");
    assert_eq!((&hops[0]["service"], &hops[0]["name"]), (&"gateway".into(), &"call".into()), "{trace}");
}

e2e::in_each_topology! {
    /// One call: five services, one trace id, one tree, in the answer and in the export alike.
    async fn hops_and_spans_are_one_story(topology) {
        let (_world, collector, switchboard) = traced(topology).await;
        let answer = call(&switchboard, "codex/gpt-5.5").await.ok().json();
        let trace = trace_of(&answer).clone();
        let id = trace["traceId"].as_str().expect("a trace id").to_owned();
        assert_eq!(id.len(), 32);
        let spans = collector.wait_for(&id, |spans| holds(spans, &trace)).await;
        same_story(&trace, &spans);
        let processes: std::collections::BTreeSet<&str> = spans.iter().map(|span| span.process.as_str()).collect();
        assert_eq!(processes.len(), if topology == Topology::OneProcess { 1 } else { 4 }, "{processes:?}");
        let upstream = spans.iter().find(|span| span.service == "upstream").expect("the upstream's span");
        assert_eq!(upstream.attribute("http.response.status_code"), "200");
        assert_eq!(upstream.attribute("switchboard.call_id"), trace["callId"].as_str().expect("an id"));
    }

    /// A caller's own trace is continued, over HTTP and with everything that it is told about it.
    async fn the_callers_trace_is_continued(topology) {
        let (world, collector, switchboard) = traced(topology).await;
        let (trace_id, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let request =
            switchboard.http().request(reqwest::Method::POST, "/v1/responses").json(&streamed("Reply exactly: OK"));
        let request = request.header("traceparent", format!("00-{trace_id}-{parent}-01")).header("tracestate", "");
        let answer = e2e::Answer::of(request).await.is(200);
        let id = answer.header("x-switchboard-call-id");
        let record = switchboard.http().get(&format!("/v1/switchboard/calls/{id}")).await.is(200).json();
        let trace = record["executionTrace"].clone();
        assert_eq!(trace["traceId"], trace_id, "{record}");
        assert_eq!(answer.header("traceparent").split('-').nth(1), Some(trace_id));
        for service in ["router-svc", "auth-svc", "transport-svc", "gateway"] {
            assert!(answer.header("server-timing").contains(service), "{}", answer.header("server-timing"));
        }
        let spans = collector.wait_for(trace_id, |spans| holds(spans, &trace)).await;
        same_story(&trace, &spans);
        let root = spans.iter().find(|span| span.parent_id == parent).expect("a child of the caller's span");
        assert_eq!(
            (root.service.as_str(), root.kind.as_str(), root.name.as_str()),
            ("gateway", "server", "POST /v1/responses")
        );
        let hop =
            trace["hops"].as_array().expect("hops").iter().find(|hop| hop["service"] == "gateway").expect("its hop");
        assert_eq!(hop["spanId"], root.span_id.as_str());
        // The provider is nobody's colleague: it learns nothing of the trace.
        assert_eq!(world.upstream()[0].header("traceparent"), None);
    }

    /// A call that fails leaves the same story: which hop failed, and why.
    async fn a_failed_hop_is_failed_in_both(topology) {
        let (world, collector, switchboard) = traced(topology).await;
        world.behave("acct-1", "challenge");
        let answer = switchboard.http().respond(&whole("Hello")).await.is(400);
        let id = answer.header("x-switchboard-call-id");
        let record = switchboard.http().get(&format!("/v1/switchboard/calls/{id}")).await.is(200).json();
        let trace = record["executionTrace"].clone();
        let trace_id = trace["traceId"].as_str().expect("a trace id").to_owned();
        let spans = collector.wait_for(&trace_id, |spans| holds(spans, &trace)).await;
        let upstream = spans.iter().find(|span| span.service == "upstream").expect("the upstream's span");
        assert!(upstream.failed);
        assert_eq!(upstream.attribute("switchboard.reason"), "EDGE_CHALLENGE");
        assert_eq!(upstream.attribute("cf.ray"), trace["attempts"][0]["rayId"].as_str().expect("a ray id"));
        let hop =
            trace["hops"].as_array().expect("hops").iter().find(|hop| hop["service"] == "upstream").expect("its hop");
        assert_eq!(hop["outcome"], "EDGE_CHALLENGE");
    }
}

/// In one process and in four, a call's tree of spans is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tree_is_the_same_in_both_topologies() {
    let mut shapes = Vec::new();
    for topology in Topology::ALL {
        let (_world, collector, switchboard) = traced(topology).await;
        // Agents' port and key, as in life; the first call also asks whose the key is.
        let answer = switchboard.http().respond(&streamed("Reply exactly: OK")).await.is(200);
        let id = answer.header("x-switchboard-call-id");
        let record = switchboard.http().get(&format!("/v1/switchboard/calls/{id}")).await.is(200).json();
        let trace = record["executionTrace"].clone();
        let trace_id = trace["traceId"].as_str().expect("a trace id").to_owned();
        let spans = collector.wait_for(&trace_id, |spans| holds(spans, &trace)).await;
        shapes.push(shape(&spans));
    }
    assert!(!shapes[0].is_empty());
    assert_eq!(shapes[0], shapes[1]);
}
