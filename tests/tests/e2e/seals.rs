//! The sealed credential: the gateway carries it and cannot choose where it goes, nor use it twice, nor late.

use domain::{Failure, Reason};
use e2e::{Part, Switchboard, failure_from_status};
use proto::auth::v1::binding_service_client::BindingServiceClient;
use proto::auth::v1::{BindRequest, Wanted};
use proto::transport::v1::transport_service_client::TransportServiceClient;
use proto::transport::v1::{RespondRequest, SealedCredential, respond_response};
use service_kit::{SealKey, SealRequest, SecretKey, UpstreamSecret, UpstreamUrl};
use tonic::Status;

use crate::support::World;

const CALL: &str = "01900000-0000-7000-8000-000000000001";
const TARGET: &str = "chatgpt-codex";

/// A real seal, bound as the gateway binds.
async fn bind(switchboard: &Switchboard) -> SealedCredential {
    let wanted = Wanted {
        agent: "main".into(),
        provider: "openai-codex".into(),
        target: TARGET.into(),
        realm: "subscription".into(),
        upstream_model: "gpt-5.5".into(),
        ..Wanted::default()
    };
    let request = BindRequest { call_id: CALL.into(), wanted: Some(wanted), ..BindRequest::default() };
    let answer = BindingServiceClient::new(switchboard.peer(Part::Auth)).bind(request).await.expect("decided");
    answer.into_inner().sealed.expect("bound")
}

fn request(sealed: &SealedCredential) -> RespondRequest {
    RespondRequest {
        call_id: CALL.into(),
        target: TARGET.into(),
        credential: Some(sealed.clone()),
        upstream_model: "gpt-5.5".into(),
        body: br#"{"input":"Reply exactly: OK"}"#.as_slice().into(),
        ..RespondRequest::default()
    }
}

/// Makes the call as the gateway does; the failure of the outcome counts as success here, since a request was made.
async fn respond(switchboard: &Switchboard, request: RespondRequest) -> Result<(), Status> {
    let mut client = TransportServiceClient::new(switchboard.peer(Part::Transport));
    let mut messages = client.respond(request).await?.into_inner();
    while let Some(message) = messages.message().await? {
        if let Some(respond_response::Message::Outcome(outcome)) = message.message {
            assert_eq!(outcome.failure, None);
        }
    }
    Ok(())
}

async fn refusal(switchboard: &Switchboard, request: RespondRequest) -> Failure {
    let status = respond(switchboard, request).await.expect_err("refused");
    assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status}");
    failure_from_status(&status, "transport-svc")
}

#[track_caller]
fn names(failure: &Failure, words: &[&str]) {
    assert_eq!((failure.reason, failure.service.as_str()), (Reason::SealRefused, "transport-svc"), "{failure}");
    for word in words {
        assert!(failure.message.contains(word), "{word}: {failure}");
    }
}

e2e::in_each_topology! {
    /// A seal opens for the target, origin, path and call that it names, once, and for nothing else.
    async fn a_seal_opens_for_what_it_names_and_only_once(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;

        let sealed = bind(&switchboard).await;
        let elsewhere = RespondRequest { target: "openai-api".into(), ..request(&sealed) };
        names(&refusal(&switchboard, elsewhere).await, &["names another target", "/backend-api/codex", "openai-api"]);
        let unknown = RespondRequest { target: "evil".into(), ..request(&sealed) };
        names(&refusal(&switchboard, unknown).await, &["no target \"evil\""]);
        let other_call = RespondRequest { call_id: "another-call".into(), ..request(&sealed) };
        names(&refusal(&switchboard, other_call).await, &["names another call"]);
        let none = RespondRequest { credential: None, ..request(&sealed) };
        names(&refusal(&switchboard, none).await, &["no sealed credential"]);

        // What the gateway could change does not open any more.
        let platform = UpstreamUrl::parse(&world.sim.openai_base_url()).expect("a URL");
        let mut readdressed = sealed.clone();
        readdressed.path_prefix = platform.path.clone();
        let moved = RespondRequest { target: "openai-api".into(), ..request(&readdressed) };
        names(&refusal(&switchboard, moved).await, &["cannot be opened"]);
        let mut later = sealed.clone();
        later.expires_at_ms += 1000.0;
        names(&refusal(&switchboard, request(&later)).await, &["cannot be opened"]);
        assert_eq!(world.upstream().len(), 0, "nothing was sent for any of them");

        respond(&switchboard, request(&sealed)).await.expect("the seal as it was made opens");
        names(&refusal(&switchboard, request(&sealed)).await, &["replayed"]);
        assert_eq!(world.upstream().len(), 1);
    }
}

/// A seal of the right key whose time is over. Only processes of their own have a key that a test can have too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_seal_is_refused_by_name() {
    let (world, _) = World::with_login().await;
    let switchboard = world.start(e2e::Topology::FourProcesses).await;
    let key = SealKey::from(SecretKey::read(&world.home.path("seal.key")).expect("the shared key"));
    let target = UpstreamUrl::parse(&world.sim.codex_base_url()).expect("a URL");
    let now_ms = domain::Clock::system().now_ms();
    let seal = |key: &SealKey, now_ms| {
        let secret =
            UpstreamSecret { token: "token".to_owned().into(), account_id: None, fedramp: false, routing: None };
        let request = SealRequest { credential_id: "c", version: 1, call_id: CALL, target: &target, now_ms };
        key.seal(&request, &secret).expect("sealed")
    };
    names(&refusal(&switchboard, request(&seal(&key, now_ms - 61_000))).await, &["expired"]);
    // Nor is one taken that will live longer than any seal does.
    names(&refusal(&switchboard, request(&seal(&key, now_ms + 3_600_000))).await, &["expired"]);
    let foreign = SealKey::generate().expect("a key");
    names(&refusal(&switchboard, request(&seal(&foreign, now_ms))).await, &["different seal keys"]);
    assert_eq!(world.upstream().len(), 0);
}
