//! Every reason as callers see it: over gRPC, over HTTP whole and streamed, and in a stream that has begun.
//!
//! What is expected stands in the contract below, not in the table of the code: the two must agree.

use std::path::Path;

use domain::Reason;
use e2e::{Answer, Provoked, Topology, beyond_reach, provoke};
use proto::auth::v1::StartLoginRequest;
use proto::auth::v1::login_service_client::LoginServiceClient;
use proto::gateway::v1::{CompleteRequest, GetCallRequest};
use serde_json::{Value, json};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::support::{World, streamed};

/// A row of the contract: gRPC status, HTTP status, `error.type`, `error.code`, and whether a retry can help.
struct Seen {
    grpc: Code,
    http: u16,
    kind: &'static str,
    code: &'static str,
    retry: Retry,
}

/// What is said about another try.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Retry {
    /// `x-should-retry: false`, and no time to wait for.
    Useless,
    /// As before, and the time at which it stops being useless.
    UselessUntil,
    /// Nothing: the client's own rules.
    Free,
    /// `retry-after`, and `RetryInfo` over gRPC.
    After,
}

const REQUEST: &str = "invalid_request_error";
const SERVER: &str = "server_error";

fn contract(reason: Reason) -> Seen {
    use Reason as R;
    use Retry::{After, Free, Useless, UselessUntil};
    let (grpc, http, kind, code, retry) = match reason {
        R::AgentKeyInvalid => (Code::Unauthenticated, 401, "authentication_error", "invalid_api_key", Useless),
        R::AgentNotAllowed => (Code::PermissionDenied, 400, REQUEST, "model_not_allowed", Useless),
        R::AgentLimited => (Code::ResourceExhausted, 429, "rate_limit_error", "rate_limit_exceeded", After),
        R::RequestInvalid => (Code::InvalidArgument, 400, REQUEST, "invalid_request", Useless),
        R::RequestTooLarge => (Code::ResourceExhausted, 413, REQUEST, "request_too_large", Useless),
        R::Unsupported => (Code::Unimplemented, 400, REQUEST, "unsupported_parameter", Useless),
        R::NotFound => (Code::NotFound, 404, REQUEST, "not_found", Useless),
        R::RouteUnknown => (Code::NotFound, 400, REQUEST, "model_not_found", Useless),
        R::CredentialNotBound => (Code::FailedPrecondition, 400, REQUEST, "credential_not_bound", Useless),
        R::CredentialNeedsLogin => (Code::FailedPrecondition, 400, REQUEST, "credential_needs_login", Useless),
        R::IdentityUnavailable => (Code::Unavailable, 503, SERVER, "identity_unavailable", After),
        R::CredentialRejected => (Code::FailedPrecondition, 400, REQUEST, "credential_rejected", Useless),
        R::NotEntitled => (Code::PermissionDenied, 400, REQUEST, "not_entitled", Useless),
        R::PolicyRefused => (Code::FailedPrecondition, 400, REQUEST, "policy_refused", Useless),
        R::UsageLimit => (Code::ResourceExhausted, 429, "usage_limit_reached", "usage_limit_reached", UselessUntil),
        R::RateLimited => (Code::ResourceExhausted, 429, "rate_limit_error", "rate_limit_exceeded", After),
        R::UpstreamOverloaded => (Code::Unavailable, 503, SERVER, "server_is_overloaded", Free),
        R::UpstreamError => (Code::Unavailable, 502, SERVER, "upstream_error", Free),
        R::UpstreamTimeout => (Code::DeadlineExceeded, 504, SERVER, "upstream_timeout", Free),
        R::WrongEndpoint => (Code::FailedPrecondition, 400, REQUEST, "wrong_endpoint", Useless),
        R::EdgeChallenge => (Code::Unavailable, 400, REQUEST, "edge_challenge", Useless),
        R::EdgeBlocked => (Code::Unavailable, 400, REQUEST, "edge_blocked", Useless),
        R::RequestRejected => (Code::InvalidArgument, 400, REQUEST, "request_rejected", Useless),
        R::ContextTooLong => (Code::InvalidArgument, 400, REQUEST, "context_length_exceeded", Useless),
        R::ClientOutdated => (Code::FailedPrecondition, 400, REQUEST, "client_outdated", Useless),
        R::StreamCut => (Code::Unavailable, 502, SERVER, "stream_cut", Free),
        R::StreamIdle => (Code::Unavailable, 502, SERVER, "stream_idle", Free),
        R::EgressUnreachable => (Code::Unavailable, 502, SERVER, "egress_unreachable", Free),
        R::PeerUnavailable => (Code::Unavailable, 503, SERVER, "peer_unavailable", After),
        R::PeerRefused => (Code::PermissionDenied, 400, REQUEST, "peer_refused", Useless),
        R::SealRefused => (Code::PermissionDenied, 400, REQUEST, "seal_refused", Useless),
        R::Shed => (Code::Unavailable, 503, SERVER, "switchboard_full", After),
        R::StoreUnavailable => (Code::Unavailable, 503, SERVER, "store_unavailable", After),
        R::Deadline => (Code::DeadlineExceeded, 504, SERVER, "deadline_exceeded", Free),
        R::Cancelled => (Code::Cancelled, 499, SERVER, "cancelled", Free),
        R::Internal => (Code::Internal, 500, SERVER, "internal_error", Useless),
    };
    Seen { grpc, http, kind, code, retry }
}

/// The tests of reasons that no call can be made to fail for: file and function.
fn covered_elsewhere(reason: Reason) -> Option<[&'static str; 2]> {
    match reason {
        Reason::PeerRefused => Some(["tests/tests/e2e/strangers.rs", "another_user_is_refused_twice_over"]),
        Reason::Cancelled => Some(["tests/tests/e2e/streams.rs", "a_caller_that_goes_away_cancels_the_upstream"]),
        Reason::Internal => Some(["crates/router-svc/tests/router.rs", "a_loader_that_panics_takes_nothing_with_it"]),
        _ => None,
    }
}

#[test]
fn every_reason_has_a_row_in_the_contract_and_a_test() {
    for reason in Reason::ALL {
        let (row, seen) = (reason.row(), contract(*reason));
        assert_eq!((row.grpc as i32, row.http), (seen.grpc as i32, seen.http), "{reason}");
        assert_eq!((row.error_type, row.error_code), (seen.kind, seen.code), "{reason}");
        assert_eq!(row.retryable, matches!(seen.retry, Retry::Free | Retry::After), "{reason}");
        // Here it is provoked; what cannot be has its test by name.
        assert_eq!(beyond_reach(*reason).is_some(), covered_elsewhere(*reason).is_some(), "{reason}");
        if let Some([file, name]) = covered_elsewhere(*reason) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(text.contains(&format!("async fn {name}(")), "{reason}: {file} has no test {name}");
            assert!(text.contains(reason.as_str()) || text.contains(&format!("{reason:?}")), "{reason}: not in {file}");
        }
    }
}

/// The failure over gRPC: status, `ErrorInfo`, `RetryInfo` and `Help`.
fn over_grpc(reason: Reason, status: &Status) {
    let seen = contract(reason);
    assert_eq!(status.code(), seen.grpc, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason.as_str(), "switchboard"));
    assert!(!info.metadata["service"].is_empty(), "{info:?}");
    let waits = matches!(seen.retry, Retry::After);
    let delay = details.retry_info().and_then(|retry| retry.retry_delay);
    assert!(seen.retry == Retry::UselessUntil || delay.is_some() == waits, "{delay:?}");
    let link = &details.help().unwrap_or_else(|| panic!("no Help: {status:?}")).links[0];
    assert_eq!(link.url, format!("docs/reasons/{reason}.md"));
    assert!(!link.description.is_empty(), "{link:?}");
    let failure = e2e::failure_from_status(status, "gateway");
    assert_eq!(failure.reason, reason, "{failure}");
}

/// The failure over HTTP: status, headers and OpenAI's error body.
fn over_http(reason: Reason, answer: &Answer) -> Value {
    let seen = contract(reason);
    let error = answer.json()["error"].clone();
    assert_eq!((answer.status, &error["reason"]), (seen.http, &reason.as_str().into()), "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!((&error["type"], &error["code"]), (&seen.kind.into(), &seen.code.into()), "{error}");
    for field in ["message", "service", "next_step"] {
        assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {error}");
    }
    assert!(error.get("param").is_some(), "param is there, if only as null: {error}");
    let useless = matches!(seen.retry, Retry::Useless | Retry::UselessUntil);
    assert_eq!(answer.header("x-should-retry") == "false", useless, "{:?}", answer.headers);
    let after = answer.header("retry-after").parse::<u64>().ok();
    match seen.retry {
        Retry::After => assert!(after.is_some_and(|seconds| seconds > 0), "{:?}", answer.headers),
        Retry::Free | Retry::Useless => assert_eq!(after, None, "{:?}", answer.headers),
        Retry::UselessUntil => {
            assert!(error["resets_at"].as_i64().is_some_and(|at| at > 0), "{error}");
            assert!((7000..=7200).contains(&error["resets_in_seconds"].as_i64().unwrap_or(0)), "{error}");
            assert_eq!(error["plan_type"], "plus", "{error}");
        }
    }
    error
}

/// The parameter at fault, where one can be named.
fn param(reason: Reason) -> Value {
    match reason {
        Reason::Unsupported => "previous_response_id".into(),
        Reason::RouteUnknown | Reason::AgentNotAllowed | Reason::RequestInvalid => "model".into(),
        _ => Value::Null,
    }
}

async fn grpc_fails(provoked: &Provoked) {
    let mut agent = provoked.switchboard.grpc_as(Some(&provoked.key));
    let status = if provoked.reason == Reason::NotFound {
        agent.get_call(GetCallRequest { call_id: "nothing".into() }).await.expect_err("not found")
    } else {
        let asked = CompleteRequest { body_json: provoked.body.to_string(), ..CompleteRequest::default() };
        let mut request = Request::new(asked);
        for (name, value) in &provoked.headers {
            request.metadata_mut().insert(*name, value.parse().expect("ASCII"));
        }
        agent.complete(request).await.expect_err("it fails")
    };
    over_grpc(provoked.reason, &status);
}

async fn http_fails(provoked: &Provoked, stream: bool) {
    let mut body = provoked.body.clone();
    body["stream"] = stream.into();
    let path = format!("{}/responses", provoked.base);
    let http = provoked.switchboard.http_as(Some(&provoked.key));
    let mut request = http.request(reqwest::Method::POST, &path).json(&body);
    for (name, value) in &provoked.headers {
        request = request.header(*name, *value);
    }
    let answer = Answer::of(request).await;
    if stream && provoked.reason == Reason::PolicyRefused {
        // The upstream's own event, with its own code and words, which clients know.
        assert_eq!(answer.event_kinds().last().map(String::as_str), Some("response.failed"), "{}", answer.text());
        assert!(answer.text().contains("cyber_policy"), "{}", answer.text());
        return;
    }
    let error = over_http(provoked.reason, &answer);
    assert_eq!(error["param"], param(provoked.reason), "{error}");
    if provoked.reason != Reason::NotFound {
        // It is a call, with a record that says the same, but for a stranger's.
        assert_eq!(error["call_id"], answer.header("x-switchboard-call-id"), "{error}");
    }
}

/// Provokes one reason and looks at it from each face.
async fn on_every_face(reason: Reason, topology: Topology) {
    let provoked = provoke(reason, topology).await;
    http_fails(&provoked, false).await;
    grpc_fails(&provoked).await;
    http_fails(&provoked, true).await;
    let page = provoked.switchboard.cli(&["explain", reason.as_str()]).await.ok().stdout;
    assert!(page.contains(&format!("# {reason}")), "{page}");
}

macro_rules! each {
    ($($name:ident = $reason:ident,)+) => {
        e2e::in_each_topology! { $(
            async fn $name(topology) { on_every_face(Reason::$reason, topology).await; }
        )+ }

        /// Every reason that can be provoked has its test above.
        #[test]
        fn none_is_forgotten() {
            let tried = [$(Reason::$reason),+];
            let missing: Vec<_> = Reason::ALL
                .iter()
                .filter(|reason| beyond_reach(**reason).is_none() && !tried.contains(reason))
                .collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

each! {
    agent_key_invalid = AgentKeyInvalid,
    agent_not_allowed = AgentNotAllowed,
    agent_limited = AgentLimited,
    request_invalid = RequestInvalid,
    request_too_large = RequestTooLarge,
    unsupported = Unsupported,
    not_found = NotFound,
    route_unknown = RouteUnknown,
    credential_not_bound = CredentialNotBound,
    credential_needs_login = CredentialNeedsLogin,
    identity_unavailable = IdentityUnavailable,
    credential_rejected = CredentialRejected,
    not_entitled = NotEntitled,
    policy_refused = PolicyRefused,
    usage_limit = UsageLimit,
    rate_limited = RateLimited,
    upstream_overloaded = UpstreamOverloaded,
    upstream_error = UpstreamError,
    upstream_timeout = UpstreamTimeout,
    wrong_endpoint = WrongEndpoint,
    edge_challenge = EdgeChallenge,
    edge_blocked = EdgeBlocked,
    request_rejected = RequestRejected,
    context_too_long = ContextTooLong,
    client_outdated = ClientOutdated,
    shed = Shed,
    stream_cut = StreamCut,
    stream_idle = StreamIdle,
    egress_unreachable = EgressUnreachable,
    peer_unavailable = PeerUnavailable,
    seal_refused = SealRefused,
    store_unavailable = StoreUnavailable,
    deadline = Deadline,
}

/// The last event of a stream that begins well: `response.failed` with the relayed response id and our reason.
async fn ends_in_the_stream(topology: Topology, setting: [&str; 2], ask: &str, header: Option<&str>, reason: Reason) {
    let (world, _) = World::with_login().await;
    world.home.set(setting[0], setting[1]);
    let switchboard = world.start(topology).await;
    let http = switchboard.http();
    let mut request = http.request(reqwest::Method::POST, "/v1/responses").json(&streamed(ask));
    if let Some(timeout) = header {
        request = request.header("grpc-timeout", timeout);
    }
    let answer = Answer::of(request).await.is(200);
    assert!(!answer.cut, "the stream ends as streams do");
    let kinds = answer.event_kinds();
    assert_eq!(kinds.iter().filter(|kind| *kind == "response.failed").count(), 1, "{kinds:?}");
    assert_eq!(kinds.last().map(String::as_str), Some("response.failed"), "{kinds:?}");
    assert!(kinds.contains(&"response.output_text.delta".to_owned()), "{kinds:?}");
    let data = |index: usize| serde_json::from_slice::<Value>(&answer.events()[index].data).expect("JSON");
    let failed = data(kinds.len() - 1);
    let error = &failed["response"]["error"];
    assert_eq!(error["code"], reason.as_str(), "{failed}");
    assert_eq!(
        (&failed["response"]["status"], &failed["response"]["id"]),
        (&json!("failed"), &data(0)["response"]["id"])
    );
    assert_eq!(error["call_id"], answer.header("x-switchboard-call-id"), "{failed}");
    let record = http.get(&format!("/v1/switchboard/calls/{}", answer.header("x-switchboard-call-id"))).await.is(200);
    assert_eq!(record.json()["error"]["reason"], reason.as_str());
}

const NOTHING: [&str; 2] = ["gateway.drain_seconds", "1"];
const QUICK: [&str; 2] = ["transport.idle_timeout", "\"1s\""];

e2e::in_each_topology! {
    /// The upstream's stream is cut after its text has begun.
    async fn a_cut_ends_in_the_stream(topology) {
        ends_in_the_stream(topology, NOTHING, "[[sim:cut:6]] Reply exactly: one two three", None, Reason::StreamCut).await;
    }

    /// It ends too early, without its terminal event.
    async fn an_early_end_ends_in_the_stream(topology) {
        let ask = "[[sim:end_early:6]] Reply exactly: one two three";
        ends_in_the_stream(topology, NOTHING, ask, None, Reason::StreamCut).await;
    }

    /// It falls silent.
    async fn silence_ends_in_the_stream(topology) {
        let ask = "[[sim:silence:6]] Reply exactly: one two three";
        ends_in_the_stream(topology, QUICK, ask, None, Reason::StreamIdle).await;
    }

    /// The caller's own deadline passes in the middle.
    async fn a_deadline_ends_in_the_stream(topology) {
        let ask = "[[sim:silence:6]] Reply exactly: one two three";
        ends_in_the_stream(topology, NOTHING, ask, Some("3S"), Reason::Deadline).await;
    }

    /// Logins that nobody completes are bounded; one more is shed.
    async fn too_many_logins_at_a_time_are_shed(topology) {
        let world = World::new().await;
        let switchboard = world.start(topology).await;
        let mut logins = LoginServiceClient::new(switchboard.peer(e2e::Part::Auth));
        let paste = proto::auth::v1::LoginMethod::Paste as i32;
        let ask = || StartLoginRequest { provider: "openai-codex".into(), label: None, method: paste, egress: None };
        let mut refused = None;
        for _ in 0..1000 {
            if let Err(status) = logins.start_login(ask()).await {
                refused = Some(status);
                break;
            }
        }
        over_grpc(Reason::Shed, &refused.expect("some are shed"));
    }
}
