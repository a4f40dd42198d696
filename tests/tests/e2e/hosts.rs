//! Services on several hosts as their operators see them: on the gateway's host, and from a host where none runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use codex_sim::SimConfig;
use domain::service;
use e2e::{Home, Http, Output, PATIENCE, Part, Process, Switchboard, Topology};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use serde_json::Value;

use crate::support::{MODEL, World, call};

/// Another host's places, with the certificate of `name` in its `[tls]`.
fn host(world: &World, name: &str) -> Home {
    let home = Home::new(&world.sim);
    let folder = world.home.certificates(name);
    for key in ["ca", "cert", "key"] {
        home.set(&format!("tls.{key}"), quoted(&folder.join(format!("{key}.pem"))));
    }
    home
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// A gateway on a host of its own, and where it serves agents and operators.
async fn gateway_elsewhere(world: &World, switchboard: &Switchboard) -> (Home, Process, [String; 3]) {
    gateway_at(host(world, service::GATEWAY), switchboard).await
}

async fn gateway_at(home: Home, switchboard: &Switchboard) -> (Home, Process, [String; 3]) {
    let url = |part| format!("\"https://{}\"", switchboard.internal(part));
    home.set("gateway.auth", url(Part::Auth)).set("gateway.router", url(Part::Router));
    home.set("gateway.transports.local.address", url(Part::Transport)).set("gateway.control_listen", "\"127.0.0.1:0\"");
    let mut command = home.command("gateway");
    command.arg("--init");
    let mut process = Process::spawn("gateway", command, &home.log_file("gateway"));
    let found = process.listening(&["gateway", "control", "admin"], PATIENCE).await.expect("it listens");
    (home, process, found.try_into().expect("three addresses"))
}

/// Runs `switchboard` on a host without any configuration, against the server at `address`, with the certificate of `name`.
async fn from_elsewhere(world: &World, name: &str, address: &str, args: &[&str]) -> Output {
    let nowhere = Home::bare();
    let server = format!("https://{address}");
    let files = ["ca.pem", "cert.pem", "key.pem"].map(|file| world.home.certificates(name).join(file));
    let [ca, cert, key] = files.map(|file| file.to_string_lossy().into_owned());
    let mut all = vec!["--server", &server, "--ca", &ca, "--cert", &cert, "--key", &key];
    all.extend_from_slice(args);
    nowhere.cli(&all).await
}

/// Logins, secrets on standard input and backups go to auth-svc wherever the operator is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_and_backups_work_from_elsewhere() {
    let world = World::with(SimConfig { device_interval_seconds: 1, ..SimConfig::default() }).await;
    let switchboard = world.start(Topology::MutualTls).await;
    let nowhere = Home::bare();
    for (name, file) in [("CA", "ca.pem"), ("CERT", "cert.pem"), ("KEY", "key.pem")] {
        let path = world.home.certificates("operator-alice").join(file);
        nowhere.env(&format!("SWITCHBOARD_TLS_{name}"), path.to_string_lossy());
    }
    nowhere.env("SWITCHBOARD_SERVER", format!("https://{}", switchboard.internal(Part::Auth)));
    let owner = async {
        e2e::eventually("a code waits for its owner", || {
            let codes = world.sim.state().pending_devices();
            codes.first().is_some_and(|code| world.sim.state().approve_device(code).is_ok())
        })
        .await;
    };
    let (said, ()) = tokio::join!(nowhere.cli(&["login", "codex", "--label", "main"]), owner);
    let _ = said.ok();
    let _ = call(&switchboard, MODEL).await.ok();
    let key = "sk-e2e-elsewhere-secret";
    world.sim.state().add_api_key(key);
    world.home.keeps("an API key", key);
    let login = ["login", "api-key", "--provider", "openai", "--label", "platform"];
    let _ = nowhere.cli_with_input(&login, key).await.ok();
    let listed = switchboard.cli(&["credentials", "list"]).await.ok();
    assert!(listed.stdout.contains("main") && listed.stdout.contains("platform"), "{listed}");
    let (file, words) = (nowhere.path("all.backup"), nowhere.write("words", "correct horse battery staple"));
    let (file, words) = (file.to_string_lossy(), words.to_string_lossy());
    let _ = nowhere.cli(&["backup", &file, "--passphrase-file", &words]).await.ok();
    let taken = nowhere.cli(&["restore", &file, "--passphrase-file", &words, "--dry-run"]).await.ok();
    assert!(taken.stdout.contains("platform"), "{taken}");
    assert!(!nowhere.data_dir().exists(), "nothing is made where nothing runs");
}

/// The gateway's host has no store and no other service, and its operator is not told to make any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_host_knows_where_the_others_are() {
    let (world, _) = World::with_login().await;
    let mut switchboard = world.start(Topology::MutualTls).await;
    let (home, _gateway, _) = gateway_elsewhere(&world, &switchboard).await;

    let health = home.cli(&["health", "--json"]).await.ok().json();
    let asked: Vec<&str> =
        health["services"].as_array().expect("services").iter().filter_map(|s| s["service"].as_str()).collect();
    assert_eq!(asked, ["gateway", "router-svc", "auth-svc", "transport-svc"], "{health}");
    let doctor = home.cli(&["doctor"]).await.ok();
    for said in [
        "service auth-svc: serving",
        "auth-svc at https://",
        "certificate tls.cert: spiffe://switchboard/service/gateway",
    ] {
        assert!(doctor.stdout.contains(said), "{said}: {doctor}");
    }
    assert!(
        doctor.stdout.contains("bound to credential main") && !doctor.stdout.contains("switchboard up"),
        "{doctor}"
    );
    let server = format!("--server https://{}", switchboard.internal(Part::Auth));
    for args in [&["credentials", "list"][..], &["keys", "list"], &["keys", "create", "x"], &["audit", "list"]] {
        let refused = home.cli(args).await.exits(1);
        assert!(refused.stderr.contains(&server) && !refused.stderr.contains("switchboard up"), "{refused}");
    }
    let made: Vec<PathBuf> =
        std::fs::read_dir(home.data_dir()).expect("made").map(|e| e.expect("an entry").path()).collect();
    assert!(made.iter().all(|path| !path.ends_with("switchboard.db") && !path.ends_with("database.key")), "{made:?}");

    // On auth-svc's host nobody asks for the others, of which nothing is known there.
    let auth = host(&world, service::AUTH);
    auth.set("auth.listen", "\"127.0.0.1:0\"");
    let health = auth.cli(&["health"]).await.exits(1);
    assert!(health.text().contains("PEER_UNAVAILABLE") && !health.text().contains("router-svc"), "{health}");

    switchboard.kill(Part::Auth).await;
    let health = home.cli(&["health"]).await.exits(1);
    assert!(health.stdout.contains(&format!("auth-svc at https://{}", switchboard.internal(Part::Auth))), "{health}");
    let doctor = home.cli(&["doctor"]).await.exits(1);
    assert!(doctor.stdout.contains("service auth-svc") && !doctor.stdout.contains("switchboard up"), "{doctor}");
}

/// An operator with a certificate works from a host where nothing runs, and the audit log has the name in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_works_from_elsewhere() {
    let (world, _) = World::with_login().await;
    let switchboard = world.start(Topology::MutualTls).await;
    let auth = switchboard.internal(Part::Auth).to_owned();
    let alice = async |args: &[&str]| from_elsewhere(&world, "operator-alice", &auth, args).await;

    let listed = alice(&["credentials", "list", "--json"]).await.ok().json();
    assert_eq!(listed["credentials"][0]["label"], "main", "{listed}");
    let made = alice(&["keys", "create", "remote", "--json"]).await.ok().json();
    let key = made["key"].as_str().expect("a key").to_owned();
    world.home.keeps("an agent key", &key);
    let question = serde_json::json!({ "model": MODEL, "input": "Reply exactly: OK" });
    let _ = switchboard.http_as(Some(&key)).respond(&question).await.is(200);
    let health = alice(&["health"]).await.ok();
    assert!(health.stdout.contains("auth-svc: serving"), "{health}");
    let doctor = alice(&["doctor", "--json"]).await.ok().json();
    let subjects: Vec<&str> =
        doctor["findings"].as_array().expect("findings").iter().filter_map(|f| f["subject"].as_str()).collect();
    assert!(subjects.contains(&"credential main") && !subjects.contains(&"data directory"), "{doctor}");
    let audit = switchboard.cli(&["audit", "list", "--json"]).await.ok().json();
    let acts = audit["acts"].as_array().or_else(|| audit["entries"].as_array()).or_else(|| audit["events"].as_array());
    let acts = acts.unwrap_or_else(|| panic!("{audit}"));
    let made = acts.iter().find(|act| act.to_string().contains("remote")).unwrap_or_else(|| panic!("{audit}"));
    assert!(made.to_string().contains("operator alice at 127.0.0.1"), "{made}");

    // Who is no operator, where it is no such service, and without a certificate: each with what to do.
    let refused = from_elsewhere(&world, service::GATEWAY, &auth, &["credentials", "list"]).await.exits(1);
    for said in
        ["PEER_REFUSED", "CredentialService/ListCredentials to operators, not to gateway", "certs init --operator"]
    {
        assert!(refused.stderr.contains(said), "{said}: {refused}");
    }
    let wrong =
        from_elsewhere(&world, "operator-alice", switchboard.internal(Part::Router), &["keys", "list"]).await.exits(1);
    assert!(
        wrong.stderr.contains("service/router-svc, and spiffe://switchboard/service/auth-svc is expected"),
        "{wrong}"
    );
    assert!(wrong.stderr.contains("the address is that service's"), "{wrong}");
    let nowhere = Home::bare();
    let server = format!("https://{auth}");
    let bare = nowhere.cli(&["--server", &server, "keys", "list"]).await.exits(2);
    assert!(bare.stderr.contains("operator's certificate") && bare.stderr.contains("--cert"), "{bare}");
    // By the environment, as a person sets it once.
    for (name, file) in [("CA", "ca.pem"), ("CERT", "cert.pem"), ("KEY", "key.pem")] {
        let path = world.home.certificates("operator-alice").join(file);
        nowhere.env(&format!("SWITCHBOARD_TLS_{name}"), path.to_string_lossy());
    }
    nowhere.env("SWITCHBOARD_SERVER", server);
    let listed = nowhere.cli(&["keys", "list"]).await.ok();
    assert!(listed.stdout.contains("remote"), "{listed}");
    assert!(!nowhere.data_dir().exists(), "nothing is made where nothing runs");

    // The gateway's own port for operators.
    let (_home, _gateway, [agents, control, _]) = gateway_elsewhere(&world, &switchboard).await;
    let _ = Http::new(&format!("http://{agents}"), Some(&key)).respond(&question).await.is(200);
    let status = from_elsewhere(&world, "operator-alice", &control, &["models", "status", "--json"]).await.ok().json();
    assert_eq!(status["routes"][0]["bound"]["credential"], "main", "{status}");
    let said = ["call", "--model", MODEL, "--message", "Reply exactly: OK"];
    assert!(from_elsewhere(&world, "operator-alice", &control, &said).await.ok().stdout.contains("OK"));
}

/// An egress that does not take the gateway's certificate has seen nothing of a call: the next one takes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_egress_that_does_not_take_the_gateways_certificate_is_passed_by() {
    let (world, _) = World::with_login().await;
    // The route's rule is router-svc's to know.
    world.home.set("gateway.transports.strict.address", "\"unix:///nowhere/strict.sock\"");
    world.home.set("providers.openai-codex.egress.prefer", "[\"strict\"]");
    let switchboard = world.start(Topology::MutualTls).await;
    // Its certificate is one of ours, and it trusts another authority: it looks at the gateway's when that has sent already.
    let elsewhere = world.home.path("elsewhere");
    let _ = world.home.cli(&["certs", "init", "--dir", &elsewhere.to_string_lossy()]).await.ok();
    let strict = host(&world, service::TRANSPORT);
    strict.set("tls.ca", quoted(&elsewhere.join("ca.pem"))).set("transport.listen", "\"127.0.0.1:0\"");
    strict.set("transport.seal_key_file", quoted(&world.home.certificates(service::TRANSPORT).join("seal.key")));
    let mut command = strict.command("transport-svc");
    command.arg("--init");
    let mut egress = Process::spawn("transport-svc", command, &strict.log_file("transport-svc"));
    let address = egress.listening(&["transport-svc"], PATIENCE).await.expect("it listens").pop().expect("an address");

    let home = host(&world, service::GATEWAY);
    home.set("gateway.transports.strict.address", format!("\"https://{address}\""));
    home.set("providers.openai-codex.egress.prefer", "[\"strict\"]");
    let (home, _gateway, _) = gateway_at(home, &switchboard).await;
    let answer = home.cli(&["call", "--model", MODEL, "--message", "Reply exactly: OK", "--json"]).await.ok().json();
    let attempts = crate::support::trace_of(&answer)["attempts"].clone();
    assert_eq!(attempts[0]["egress"], "strict", "{attempts}");
    assert_eq!(
        (&attempts[0]["result"], &attempts[0]["reason"]),
        (&"failed".into(), &"PEER_UNAVAILABLE".into()),
        "{attempts}"
    );
    assert_eq!((&attempts[1]["egress"], &attempts[1]["result"]), (&"local".into(), &"success".into()), "{attempts}");
    assert_eq!(world.upstream().len(), 1);
    assert!(
        egress.log().contains("refused a connection") && egress.log().contains("UnknownIssuer"),
        "{}",
        egress.log()
    );
}

/// A certificate that ends is spoken of before it ends; with one that has ended nothing starts, and what to do is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_spoken_of_before_it_ends() {
    let (world, _) = World::with_login().await;
    let mut switchboard = world.start(Topology::MutualTls).await;
    let left = async |switchboard: &Switchboard| {
        let page = Http::new(&switchboard.admin_url(Part::Auth), None).get("/metrics").await.is(200).text();
        let line =
            page.lines().find(|line| line.starts_with("switchboard_certificate_expires_seconds{")).expect("a gauge");
        assert!(line.contains("setting=\"tls.cert\""), "{line}");
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")
    };
    assert!(left(&switchboard).await > 300.0 * 86_400.0);
    let _ = world.home.cli(&["certs", "renew", "auth-svc", "--days", "3"]).await.ok();
    switchboard.logged(Part::Auth, "our certificate: it ends at").await;
    assert!(left(&switchboard).await <= 3.0 * 86_400.0);
    let ready = Http::new(&switchboard.admin_url(Part::Auth), None).get("/readyz").await.is(200).json();
    assert!(ready["warnings"].to_string().contains("certificate tls.cert"), "{ready}");
    let listed = world.home.cli(&["certs", "list", "--json"]).await.ok().json();
    let of =
        |name: &str| listed["certificates"].as_array().expect("a list").iter().find(|c| c["name"] == name).cloned();
    let state = |name: &str| of(name).map(|certificate| certificate["state"].clone());
    assert_eq!((state("auth-svc"), state("gateway")), (Some("ends_soon".into()), Some("good".into())), "{listed}");
    let auth = host(&world, service::AUTH);
    let doctor = auth.cli(&["doctor", "--json"]).await.json();
    let certificate = |doctor: &Value| {
        let all = doctor["findings"].as_array().expect("findings");
        all.iter()
            .find(|finding| finding["subject"] == "certificate tls.cert")
            .cloned()
            .unwrap_or_else(|| panic!("{doctor}"))
    };
    assert_eq!(certificate(&doctor)["severity"], "warning", "{doctor}");

    end(&world.home, service::AUTH);
    // One that has ended does not take the place of one that is good.
    switchboard.logged(Part::Auth, "changed certificates cannot be used").await;
    let mut command = auth.command("auth-svc");
    command.arg("--init");
    let refused = Output::of(command, "").await.exits(78);
    assert!(
        refused.stderr.contains("cert.pem: it has ended at") && refused.stderr.contains("certs renew"),
        "{refused}"
    );
    assert!(!auth.data_dir().join("switchboard.db").exists(), "nothing was made");
    let doctor = auth.cli(&["doctor", "--json"]).await.exits(1).json();
    assert_eq!(certificate(&doctor)["severity"], "error", "{doctor}");
    let used =
        from_elsewhere(&world, service::AUTH, switchboard.internal(Part::Auth), &["keys", "list"]).await.exits(1);
    assert!(used.stderr.contains("it has ended at") && used.stderr.contains("certs renew"), "{used}");
}

/// Signs the certificate of `name` anew, with an end that has come.
fn end(home: &Home, name: &str) {
    let read = |file: PathBuf| std::fs::read_to_string(file).expect("a file");
    let authority = KeyPair::from_pem(&read(home.certificates("ca-key.pem"))).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read(home.certificates("ca.pem")), authority).expect("an authority");
    let key = KeyPair::from_pem(&read(home.certificates(name).join("key.pem"))).expect("a key");
    let mut params = CertificateParams::default();
    let id = format!("spiffe://switchboard/service/{name}");
    params.subject_alt_names.push(SanType::URI(id.as_str().try_into().expect("ASCII")));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(7200)).into();
    params.not_after = (now - Duration::from_secs(3600)).into();
    let signed = params.signed_by(&key, &issuer).expect("signed");
    std::fs::write(home.certificates(name).join("cert.pem"), signed.pem()).expect("written");
}

e2e::in_each_topology! {
    /// The agents' certificate is renewed by somebody else's program, every few weeks: no restart, which would cut streams.
    async fn the_agents_certificate_is_taken_up_without_a_restart(topology) {
        let (world, _) = World::with_login().await;
        let write = || {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
            let _ = world.home.write("front.pem", &made.cert.pem());
            let _ = world.home.write("front-key.pem", &made.signing_key.serialize_pem());
            made.cert.der().to_vec()
        };
        let first = write();
        world.home.set("gateway.tls_cert", quoted(&world.home.path("front.pem")));
        world.home.set("gateway.tls_key", quoted(&world.home.path("front-key.pem")));
        let mut switchboard = world.start(topology).await;
        let shown = async |switchboard: &Switchboard| {
            let client = reqwest::Client::builder().danger_accept_invalid_certs(true).tls_info(true).no_proxy().build();
            let url = format!("https://{}/v1/models", switchboard.address());
            let request = client.expect("a client").get(url).bearer_auth(switchboard.key());
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let info = answer.extensions().get::<reqwest::tls::TlsInfo>().expect("TLS");
            info.peer_certificate().expect("a certificate").to_vec()
        };
        assert_eq!(shown(&switchboard).await, first);
        let second = write();
        switchboard.logged(Part::Gateway, "certificates read again").await;
        assert_eq!(shown(&switchboard).await, second);
        let page = Http::new(&switchboard.admin_url(Part::Gateway), None).get("/metrics").await.is(200).text();
        assert!(page.contains("switchboard_certificate_expires_seconds{setting=\"gateway.tls_cert\"}"), "{page}");
        // A key that others can read is no key.
        let _ = switchboard.stop().await;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(world.home.path("front-key.pem"), open).expect("a mode");
        let refused = crate::support::start_fails(&world.home, topology, "gateway").await.exits(78);
        assert!(refused.stderr.contains("gateway.tls_key") && refused.stderr.contains("chmod 600"), "{refused}");
    }
}

/// What a first start says where nothing is yet, and what `switchboard up` does not serve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_told_what_makes_it_start() {
    let world = World::new().await;
    for name in ["auth-svc", "gateway", "transport-svc"] {
        let told = Output::of(world.home.command(name), "").await.exits(1);
        assert!(told.stderr.contains(&format!("`{name} --init`")) && !told.stderr.contains("switchboard up"), "{told}");
    }
    let _ = world.home.cli(&["certs", "init"]).await.ok();
    for (setting, path) in world.home.tls(service::GATEWAY) {
        world.home.env(setting, path.to_string_lossy());
    }
    world.home.set("auth.listen", "\"127.0.0.1:0\"").set("gateway.router", "\"https://127.0.0.1:1\"");
    let refused = world.home.cli(&["up"]).await.exits(78);
    for said in ["auth.listen", "gateway.router", "processes of their own"] {
        assert!(refused.stderr.contains(said), "{said}: {refused}");
    }
    // An authority's key has no business where a service runs.
    world.home.unset("auth.listen").unset("gateway.router");
    let _ = world.home.cli(&["keys", "create", "first"]).await.ok();
    let inside = world.home.data_dir().join("certs");
    let refused = world.home.cli(&["certs", "init", "--dir", &inside.to_string_lossy()]).await.exits(2);
    assert!(refused.stderr.contains("data directory of a service") && !inside.exists(), "{refused}");
    let other = world.home.cli(&["certs", "init", "--domain", "elsewhere"]).await.exits(2);
    assert!(other.stderr.contains("is of switchboard"), "{other}");
    let host = world.home.cli(&["certs", "init", "--host", "auth.internal"]).await.ok();
    assert!(host.stderr.contains("auth-svc was kept as it is"), "{host}");
}
