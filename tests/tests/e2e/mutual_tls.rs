//! Services on TCP, as on several hosts: each knows by its certificate who is at the other end.

use domain::{Reason, service};
use e2e::{Part, Topology, failure_from_status, stream_question};
use futures_util::TryStreamExt;
use proto::auth::v1::binding_service_client::BindingServiceClient;
use proto::auth::v1::key_service_client::KeyServiceClient;
use proto::auth::v1::{BindRequest, ListKeysRequest};
use proto::router::v1::router_service_client::RouterServiceClient;
use proto::router::v1::{ReloadRequest, ResolveRequest};
use service_kit::PeerChannel;
use service_kit::tls::MutualTls;

use crate::support::{MODEL, World, call, streamed, whole};

/// A client at `part` with the certificate of `name`.
fn as_somebody(switchboard: &e2e::Switchboard, name: &str, part: Part) -> PeerChannel {
    let [ca, cert, key] = switchboard.home().tls(name).map(|(_, path)| Some(path));
    let mutual = MutualTls::load(&config::Tls { ca, cert, key }).expect("certificates").expect("some");
    PeerChannel::network(part.name(), switchboard.internal(part), &mutual)
}

/// Calls, streams and operators' commands work as over sockets, and the trace says the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_through() {
    let (world, _) = World::with_login().await;
    let switchboard = world.start(Topology::MutualTls).await;
    let answer = call(&switchboard, MODEL).await.ok().json();
    let hops = crate::support::trace_of(&answer)["hops"].as_array().expect("hops").clone();
    for part in [Part::Router, Part::Auth, Part::Transport] {
        assert!(hops.iter().any(|hop| hop["service"] == part.name() && hop["outcome"] == "ok"), "{hops:?}");
    }
    let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
    let events = switchboard.http().respond(&streamed("[[sim:long:200:100]]")).await.is(200);
    assert_eq!(events.event_kinds().last().map(String::as_str), Some("response.completed"));
    let stream = switchboard.grpc().respond(stream_question(MODEL, "Reply exactly: OK")).await.expect("a stream");
    assert!(!stream.into_inner().try_collect::<Vec<_>>().await.expect("events").is_empty());
    // On the host itself operators go on using the sockets.
    for args in [&["credentials", "list"][..], &["keys", "list"], &["models", "status", "--check"], &["health"]] {
        let _ = switchboard.cli(args).await.ok();
    }
}

/// Who may call what: the gateway what calls need, operators what operators do, other services nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_method_is_for_who_is_named_for_it() {
    let (world, _) = World::with_login().await;
    let mut switchboard = world.start(Topology::MutualTls).await;
    let refused = |status: tonic::Status, words: &[&str]| {
        let failure = failure_from_status(&status, "auth-svc");
        assert_eq!(failure.reason, Reason::PeerRefused, "{failure}");
        for word in words {
            assert!(failure.message.contains(word), "{word}: {failure}");
        }
    };
    let alice = as_somebody(&switchboard, "operator-alice", Part::Auth);
    let keys = KeyServiceClient::new(alice.clone()).list_keys(ListKeysRequest::default()).await.expect("keys");
    assert_eq!(keys.into_inner().keys.len(), 1);
    let status = BindingServiceClient::new(alice).bind(BindRequest::default()).await.expect_err("refused");
    refused(status, &["BindingService/Bind", "the gateway", "operator alice"]);

    let gateway = as_somebody(&switchboard, service::GATEWAY, Part::Auth);
    let status = KeyServiceClient::new(gateway).list_keys(ListKeysRequest::default()).await.expect_err("refused");
    refused(status, &["KeyService/ListKeys", "operators", "not to gateway"]);
    switchboard.logged(Part::Auth, "refused a caller").await;

    let router = as_somebody(&switchboard, service::GATEWAY, Part::Router);
    let mut router = RouterServiceClient::new(router);
    let asked = ResolveRequest { model: MODEL.to_owned(), ..ResolveRequest::default() };
    let _ = router.resolve(asked.clone()).await.expect("a route");
    refused(
        router.reload(ReloadRequest::default()).await.expect_err("refused"),
        &["RouterService/Reload", "operators"],
    );
    let transport = as_somebody(&switchboard, service::TRANSPORT, Part::Router);
    refused(RouterServiceClient::new(transport).resolve(asked).await.expect_err("refused"), &["not to transport-svc"]);
}

/// A certificate of another authority: no call comes through, and both sides say why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_certificate_is_refused_and_both_sides_say_why() {
    let (world, _) = World::with_login().await;
    let mut switchboard = world.start(Topology::MutualTls).await;
    let elsewhere = world.home.path("elsewhere");
    let made = world.home.cli(&["certs", "init", "--dir", &elsewhere.to_string_lossy()]).await;
    let _ = made.ok();
    let folder = elsewhere.join("gateway");
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| Some(folder.join(name)));
    let mutual =
        MutualTls::load(&config::Tls { ca, cert: cert.clone(), key: key.clone() }).expect("read").expect("some");
    let foreign = PeerChannel::network(service::AUTH, switchboard.internal(Part::Auth), &mutual);
    let status = BindingServiceClient::new(foreign).bind(BindRequest::default()).await.expect_err("refused");
    let failure = failure_from_status(&status, "auth-svc");
    assert_eq!(failure.reason, Reason::PeerUnavailable, "{failure}");
    assert!(failure.message.contains("https://") && failure.message.contains("UnknownIssuer"), "{failure}");
    // The client ends it as soon as it sees the server's certificate, and says so; the server hears which it could not take.
    switchboard.logged(Part::Auth, "refused a connection").await;

    // The other way round: it trusts our authority, and ours does not trust the one that signed it.
    let [ca, ..] = world.home.tls(service::GATEWAY).map(|(_, path)| Some(path));
    let mutual = MutualTls::load(&config::Tls { ca, cert, key }).expect("read").expect("some");
    let foreign = PeerChannel::network(service::AUTH, switchboard.internal(Part::Auth), &mutual);
    let status = BindingServiceClient::new(foreign).bind(BindRequest::default()).await.expect_err("refused");
    let failure = failure_from_status(&status, "auth-svc");
    assert!(failure.message.contains("UnknownCA"), "{failure}");
    switchboard.logged(Part::Auth, "UnknownIssuer").await;
}

/// A service that goes away is named with its address, and its return is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_is_named_and_its_return_is_enough() {
    let (world, _) = World::with_login().await;
    let mut switchboard = world.start(Topology::MutualTls).await;
    for part in [Part::Router, Part::Auth, Part::Transport] {
        let _ = switchboard.http().respond(&whole("Hello")).await.is(200);
        let address = switchboard.internal(part).to_owned();
        switchboard.kill(part).await;
        let failed = call(&switchboard, MODEL).await.exits(1).json();
        let message = failed["error"]["message"].as_str().expect("a message");
        assert_eq!(failed["error"]["reason"], "PEER_UNAVAILABLE", "{failed}");
        assert!(message.contains(&format!("{} at https://{address}", part.name())), "{message}");
        switchboard.restart().await;
        e2e::eventually_async("calls go through again", async || {
            switchboard.http().respond(&whole("Hello")).await.status == 200
        })
        .await;
    }
}

/// `certs renew` is taken up while services run: afterwards none of them needs the old certificates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_are_taken_up_without_a_restart() {
    let (world, _) = World::with_login().await;
    let mut switchboard = world.start(Topology::MutualTls).await;
    let _ = call(&switchboard, MODEL).await.ok();
    let listed = world.home.cli(&["certs", "list", "--json"]).await.ok().json();
    let until = |list: &serde_json::Value| list["certificates"][0]["expiresAt"].as_i64().expect("a time");
    let renewed = world.home.cli(&["certs", "renew", "--new-keys", "--days", "400", "--json"]).await.ok().json();
    assert_eq!(renewed["certificates"].as_array().map(Vec::len), Some(5), "{renewed}");
    assert!(until(&renewed) > until(&listed) + 30 * 86_400, "{listed} {renewed}");
    for part in Part::ALL {
        switchboard.logged(part, "certificates read again").await;
    }
    let _ = call(&switchboard, MODEL).await.ok();
    switchboard.kill(Part::Auth).await;
    switchboard.restart().await;
    e2e::eventually_async("calls go through again", async || {
        switchboard.http().respond(&whole("Hello")).await.status == 200
    })
    .await;
}

/// What `certs` says to a person, and what it leaves alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_made_once_and_grows() {
    let world = World::new().await;
    let first = world.home.cli(&["certs", "init"]).await.ok();
    for word in ["made authority", "spiffe://switchboard/service/gateway", "operator-admin", "made seal key"] {
        assert!(first.stdout.contains(word), "{word}: {first}");
    }
    let key = world.home.certificates("ca-key.pem");
    let before = std::fs::read(&key).expect("the authority's key");
    let again = world.home.cli(&["certs", "init", "--operator", "bob", "--json"]).await.ok().json();
    assert_eq!((&again["authorityMade"], &again["sealKeyMade"]), (&false.into(), &false.into()));
    assert_eq!(again["made"].as_array().map(Vec::len), Some(1), "{again}");
    assert_eq!(again["made"][0]["id"], "spiffe://switchboard/operator/bob");
    assert_eq!(std::fs::read(&key).expect("the same"), before);
    let listed = world.home.cli(&["certs", "list"]).await.ok();
    assert_eq!(listed.stdout.lines().count(), 7, "{listed}");
    let wrong = world.home.cli(&["certs", "renew", "nobody"]).await.exits(2);
    assert!(wrong.stderr.contains("nobody") && wrong.stderr.contains("operator-bob"), "{wrong}");
    let wrong = world.home.cli(&["certs", "init", "--operator", "../up"]).await.exits(2);
    assert!(wrong.stderr.contains("not a name"), "{wrong}");
    let private = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).expect("a mode").permissions().mode() & 0o077 == 0
    };
    assert!(private(&key) && private(&world.home.certificates("gateway").join("key.pem")));
}
