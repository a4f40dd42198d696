use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use domain::service::{AUTH, GATEWAY};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::kept::Look;
use super::*;
use crate::link::{Link, LinkError, Network, Place};
use crate::listener::Bound;
use crate::server::{MAX_STRANGERS, ServeOptions};

/// An authority of the test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a certificate with the URI name `id` into `folder`, valid for `days` around now.
    fn sign(&self, folder: &Path, id: &str, days: std::ops::Range<i64>) -> config::Tls {
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::URI(id.try_into().expect("ASCII")));
        let now = SystemTime::now();
        let at = |days: i64| match u64::try_from(days) {
            Ok(later) => now + Duration::from_secs(later * 86_400),
            Err(_) => now - Duration::from_secs(days.unsigned_abs() * 86_400),
        };
        (params.not_before, params.not_after) = (at(days.start).into(), at(days.end).into());
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let file = |name: &str, content: String| {
            let path = folder.join(name);
            std::fs::write(&path, content).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
            Some(path)
        };
        config::Tls {
            ca: file("ca.pem", self.pem.clone()),
            cert: file("cert.pem", certificate.pem()),
            key: file("key.pem", key.serialize_pem()),
        }
    }

    fn member(&self, id: &str) -> (MutualTls, tempfile::TempDir) {
        self.member_for(id, -1..30)
    }

    fn member_for(&self, id: &str, days: std::ops::Range<i64>) -> (MutualTls, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a directory");
        let config = self.sign(folder.path(), id, days);
        (MutualTls::load(&config).expect("loaded").expect("there"), folder)
    }
}

/// What each side says of a connection that `client` makes to `server`, taking it for auth-svc.
async fn meet(client: &MutualTls, server: &MutualTls) -> (io::Result<()>, io::Result<SpiffeId>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    let serve = async {
        let (stream, _) = listener.accept().await?;
        let (mut stream, named) = server.accept(stream).await?;
        stream.write_all(b"!").await?;
        Ok(named.id)
    };
    let call = async {
        let mut stream = client.connect(AUTH, &address).await?;
        // In TLS 1.3 a client hears only now whether it was let in.
        stream.read_u8().await.map(|_| ())
    };
    tokio::join!(call, serve)
}

#[tokio::test]
async fn both_sides_know_who_is_there() {
    let authority = Authority::new("ours");
    let (auth, _auth) = authority.member("spiffe://switchboard/service/auth-svc");
    let (gateway, _gateway) = authority.member("spiffe://switchboard/service/gateway");
    let (alice, _alice) = authority.member("spiffe://switchboard/operator/alice");
    let (called, served) = meet(&gateway, &auth).await;
    assert_eq!((called.is_ok(), served.expect("served").identity), (true, Identity::Service(GATEWAY)));
    let (called, served) = meet(&alice, &auth).await;
    assert_eq!((called.is_ok(), served.expect("served").identity), (true, Identity::Operator("alice".into())));
}

#[tokio::test]
async fn who_is_not_meant_is_refused_on_both_sides() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let (auth, _auth) = authority.member("spiffe://switchboard/service/auth-svc");
    let (gateway, _gateway) = authority.member("spiffe://switchboard/service/gateway");
    let texts = async |client: &MutualTls, server: &MutualTls| {
        let (called, served) = meet(client, server).await;
        (called.expect_err("refused").to_string(), served.expect_err("refused").to_string())
    };

    let (foreign, _foreign) = other.member("spiffe://switchboard/service/gateway");
    let (client, server) = texts(&foreign, &auth).await;
    assert!(client.contains("UnknownIssuer") && server.contains("UnknownCA"), "{client} / {server}");

    let (expired, _expired) = authority.member_for("spiffe://switchboard/service/gateway", -30..-1);
    assert!(expired.ended().expect("an end").to_string().contains("cert.pem: it has ended at"));
    let (client, server) = texts(&expired, &auth).await;
    assert!(client.contains("CertificateExpired") && server.contains("expired"), "{client} / {server}");
    let (old, _old) = authority.member_for("spiffe://switchboard/service/auth-svc", -30..-1);
    let (client, _) = texts(&gateway, &old).await;
    assert!(client.contains("expired"), "{client}");

    let (elsewhere, _elsewhere) = authority.member("spiffe://other/service/gateway");
    let (client, _) = texts(&elsewhere, &auth).await;
    assert!(client.contains("spiffe://switchboard/service/auth-svc") && client.contains("domain other"), "{client}");

    let (client, _) = texts(&auth, &gateway).await;
    assert!(client.contains("service/gateway") && client.contains("service/auth-svc"), "{client}");
}

#[tokio::test]
async fn renewed_files_are_taken_up_and_broken_ones_are_not() {
    let authority = Authority::new("ours");
    let folder = tempfile::tempdir().expect("a directory");
    let config = authority.sign(folder.path(), "spiffe://switchboard/service/gateway", -1..30);
    let member = MutualTls::load(&config).expect("loaded").expect("there");
    assert_eq!(member.kept.look(), Look::Same);
    let _ = authority.sign(folder.path(), "spiffe://switchboard/operator/alice", -1..30);
    assert_eq!(member.kept.look(), Look::TakenUp);
    assert_eq!(member.own().identity, Identity::Operator("alice".into()));
    // One that has ended would be worse than what is there.
    let _ = authority.sign(folder.path(), "spiffe://switchboard/operator/bob", -30..-1);
    assert_eq!((member.kept.look(), member.kept.look()), (Look::Refused, Look::Same), "told once");
    std::fs::write(folder.path().join("cert.pem"), "broken").expect("written");
    assert_eq!((member.kept.look(), member.kept.look()), (Look::Refused, Look::Same), "told once");
    assert_eq!(member.own().identity, Identity::Operator("alice".into()));
    assert!(member.ended().is_none());
}

#[test]
fn faults_name_setting_and_file() {
    let authority = Authority::new("ours");
    let folder = tempfile::tempdir().expect("a directory");
    let config = authority.sign(folder.path(), "spiffe://switchboard/service/gateway", -1..30);
    let told = |config: &config::Tls| MutualTls::load(config).expect_err("a fault").to_string();
    assert!(MutualTls::load(&config::Tls::default()).expect("nothing").is_none());
    let key = folder.path().join("key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let text = told(&config);
    assert!(text.contains("tls.key") && text.contains("key.pem") && text.contains("chmod 600"), "{text}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    std::fs::write(&key, KeyPair::generate().expect("a key").serialize_pem()).expect("written");
    assert!(told(&config).contains("tls.key"), "another key");
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nsecret").expect("written");
    let text = told(&config);
    assert!(text.contains("tls.key") && !text.contains("secret"), "{text}");
    std::fs::write(folder.path().join("cert.pem"), &authority.pem).expect("written");
    let text = told(&config);
    assert!(text.contains("tls.cert") && text.contains("no URI name"), "{text}");
    let text = told(&config::Tls { ca: Some(folder.path().join("absent.pem")), ..config });
    assert!(text.contains("tls.ca") && text.contains("absent.pem"), "{text}");
}

#[tokio::test]
async fn callers_of_a_host_that_says_nothing_fail_together() {
    let authority = Authority::new("ours");
    let (gateway, _gateway) = authority.member("spiffe://switchboard/service/gateway");
    // The kernel accepts; nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = silent.local_addr().expect("an address").to_string();
    let network = Network { peer: AUTH, address, mutual: gateway };
    let link = Link::new(Place::Network(Arc::new(network)));
    let ask = || async { ask(&link).await.expect_err("nobody answers") };
    let began = std::time::Instant::now();
    let failed = futures_util::future::join_all((0..30).map(|_| ask())).await;
    assert!(failed.iter().all(|error| error.to_string().contains("in time")), "{failed:?}");
    // One attempt for all of them; one after the other they would take a minute and a half.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let began = std::time::Instant::now();
    let _ = ask().await;
    assert!(began.elapsed() < Duration::from_secs(3), "who comes next is told at once");
}

#[tokio::test]
async fn no_session_is_taken_up_again() {
    let authority = Authority::new("ours");
    let (auth, _auth) = authority.member("spiffe://switchboard/service/auth-svc");
    let (alice, _alice) = authority.member("spiffe://switchboard/operator/alice");
    // A client that would like to.
    let mut config = alice.kept.current().client(Some(AUTH)).expect("a client");
    config.resumption = Resumption::in_memory_sessions(8);
    let connector = TlsConnector::from(Arc::new(config));
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let serve = async {
            let (stream, _) = listener.accept().await?;
            auth.accept(stream).await?.0.write_all(b"!").await
        };
        let call = async {
            let stream = TcpStream::connect(address).await?;
            let mut stream = connector.connect(ServerName::try_from("localhost").expect("a name"), stream).await?;
            stream.read_u8().await?;
            io::Result::Ok(stream.get_ref().1.handshake_kind())
        };
        let (called, served) = tokio::join!(call, serve);
        served.expect("served");
        assert_eq!(called.expect("called"), Some(rustls::HandshakeKind::Full));
    }
}

/// Asks once, with a request that says nothing.
async fn ask(link: &Link) -> Result<(), LinkError> {
    let request = http::Request::post("/a.B/C").body(tonic::body::Body::empty()).expect("a request");
    link.send(request).await.map(drop)
}

#[tokio::test]
async fn an_attempt_to_connect_outlives_who_began_it() {
    let authority = Authority::new("ours");
    let (auth, _auth) = authority.member("spiffe://switchboard/service/auth-svc");
    let (gateway, _gateway) = authority.member("spiffe://switchboard/service/gateway");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    let link = Link::new(Place::Network(Arc::new(Network { peer: AUTH, address, mutual: gateway })));
    // Callers without the time for a handshake, one after the other; the peer has not even begun with its part of it.
    for _ in 0..3 {
        assert!(tokio::time::timeout(Duration::from_millis(50), ask(&link)).await.is_err());
    }
    let connections = async {
        let mut count = 0;
        while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await {
            count += 1;
            let (mut stream, _) = auth.accept(stream).await.expect("a handshake");
            let _ = stream.write_all(b"no HTTP").await;
        }
        count
    };
    let (connections, asked) = tokio::join!(connections, ask(&link));
    assert!(matches!(asked, Err(LinkError::Broken { .. })), "{asked:?}");
    // The first caller's, which served the last one, and one more if that was told that nothing had been sent.
    assert!((1..=2).contains(&connections), "{connections}");
}

#[tokio::test]
async fn a_refused_certificate_is_told_of_as_unreached() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let (auth, _auth) = authority.member("spiffe://switchboard/service/auth-svc");
    // It trusts our authority, and was signed by another one.
    let folder = tempfile::tempdir().expect("a directory");
    let config = other.sign(folder.path(), "spiffe://switchboard/service/gateway", -1..30);
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).expect("written");
    let foreign = MutualTls::load(&config).expect("loaded").expect("there");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    let link = Link::new(Place::Network(Arc::new(Network { peer: AUTH, address, mutual: foreign })));
    let serve = async {
        let (stream, _) = listener.accept().await.expect("a client");
        assert!(auth.accept(stream).await.is_err());
        drop(listener);
    };
    let (asked, ()) = tokio::join!(ask(&link), serve);
    let error = asked.expect_err("refused");
    assert!(error.is_unreached() && error.is_about_certificates(), "{error:?}");
    assert!(error.to_string().contains("UnknownCA"), "{error}");
    // What is wrong next is told as that, and not as what was wrong before.
    let error = ask(&link).await.expect_err("nobody listens");
    assert!(error.is_unreached() && !error.is_about_certificates(), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn who_shows_no_certificate_has_few_places() {
    let authority = Authority::new("ours");
    let (auth, _auth) = authority.member("spiffe://switchboard/service/auth-svc");
    let (gateway, _gateway) = authority.member("spiffe://switchboard/service/gateway");
    let listener = Bound::bind(&"127.0.0.1:0".parse().expect("an address")).await.expect("bound");
    let address = listener.address().expect("an address").to_string();
    let shutdown = CancellationToken::new();
    let options = ServeOptions { mutual: Some(auth), drain: Duration::from_secs(1), ..ServeOptions::default() };
    let serving = crate::server::serve(axum::Router::new(), listener, options, shutdown.clone());
    let calling = async {
        // Somebody of ours, before and in the middle of it.
        let link =
            Link::new(Place::Network(Arc::new(Network { peer: AUTH, address: address.clone(), mutual: gateway })));
        ask(&link).await.expect("an answer");
        let mut silent = Vec::new();
        for _ in 0..MAX_STRANGERS {
            silent.push(TcpStream::connect(&address).await.expect("connected"));
        }
        let mut one_more = TcpStream::connect(&address).await.expect("connected");
        // A reset, or an end: it is not waited for.
        assert!(matches!(one_more.read(&mut [0]).await, Ok(0) | Err(_)));
        ask(&link).await.expect("who is in stays in");
        drop(silent);
        shutdown.cancel();
    };
    let ((), ()) = tokio::join!(serving, calling);
}

#[tokio::test]
async fn a_host_that_goes_without_a_word_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
    prepare(&stream, UNACKNOWLEDGED_ANSWER_MS);
    assert_eq!(rustix::net::sockopt::tcp_user_timeout(&stream).expect("an option"), UNACKNOWLEDGED_ANSWER_MS);
    assert!(stream.nodelay().expect("an option"));
}
