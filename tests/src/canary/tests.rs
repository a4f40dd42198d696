//! A check that cannot fail is none: a secret is planted in each place, and must be found there.

use std::process::Command;

use codex_sim::{SeedLogin, Sim, SimConfig};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use tonic::transport::Endpoint;

use crate::{Answer, Collector, Home, Http, Output, Process};

struct Planted {
    home: Home,
    access: String,
    refresh: String,
    _sim: Sim,
}

impl Planted {
    async fn new() -> Self {
        let sim = Sim::start(SimConfig::default()).await.expect("a simulator");
        let home = Home::new(&sim);
        let login = sim.state().seed_login(SeedLogin::account("acct-1"));
        std::fs::create_dir(home.data_dir()).expect("made");
        home.canary().expect("armed").disarm();
        Self { home, access: login.access_token, refresh: login.refresh_token, _sim: sim }
    }

    /// The verdict is this many complaints, and one of them holds each of `parts`.
    #[track_caller]
    fn verdict(&self, count: usize, parts: &[&str]) {
        let verdict = self.home.canary().expect("armed").verdict();
        assert_eq!(verdict.len(), count, "{verdict:#?}");
        assert!(verdict.iter().any(|one| parts.iter().all(|part| one.contains(part))), "{parts:?}: {verdict:#?}");
        assert!(verdict.iter().all(|one| !one.contains(&self.access) && !one.contains(&self.refresh)), "{verdict:#?}");
    }

    /// A shell in this home, told apart from others by its arguments.
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", "--data-dir"]).arg(self.home.data_dir());
        command
    }
}

#[tokio::test]
async fn clean_places_are_clean() {
    let planted = Planted::new().await;
    planted.home.write("logs/auth-svc.log", "refreshed a token credential=main");
    planted.home.write("data/agent.key", "sbk_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789");
    let _ = Output::of(planted.shell("echo sbk_AbCdEfGh"), "").await.ok();
    assert_eq!(planted.home.canary().expect("armed").verdict(), Vec::<String>::new());
}

#[tokio::test]
async fn logs_and_data_files_are_searched() {
    let planted = Planted::new().await;
    planted.home.write("logs/auth-svc.log", &format!("body: {}", planted.refresh));
    planted.verdict(2, &["logs/auth-svc.log", "a refresh token", "body: "]);
    let planted = Planted::new().await;
    let cut = &planted.access[..planted.access.len() - 40];
    planted.home.write("data/sim/switchboard.db-wal", cut);
    planted.verdict(1, &["data/sim/switchboard.db-wal", "an access token (its signature)"]);
    let planted = Planted::new().await;
    planted.home.write("data/database.key", &"5a".repeat(32));
    std::fs::write(planted.home.data_dir().join("switchboard.db"), [0x5a; 32]).expect("written");
    planted.verdict(1, &["switchboard.db", "the database key"]);
}

#[tokio::test]
async fn outputs_of_commands_are_searched_and_made_keys_are_learned() {
    let planted = Planted::new().await;
    let mut talkative = planted.shell("echo \"$TOKEN\" >&2");
    let _ = Output::of(
        {
            talkative.env("TOKEN", &planted.access);
            talkative
        },
        "",
    )
    .await
    .ok();
    planted.verdict(2, &["the output of", "an access token"]);
    let planted = Planted::new().await;
    let mut careless = planted.shell("true");
    let _ = Output::of(
        {
            careless.arg(&planted.refresh);
            careless
        },
        "",
    )
    .await
    .ok();
    planted.verdict(2, &["the arguments of a command", "a refresh token"]);

    let planted = Planted::new().await;
    let key = "sbk_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789";
    let mut create = planted.shell("echo \"$KEY\"");
    create.args(["keys", "create", "mine"]).env("KEY", key);
    let _ = Output::of(create, "").await.ok();
    assert!(planted.home.canary().expect("armed").verdict().is_empty());
    planted.home.write("logs/gateway.log", key);
    planted.verdict(2, &["logs/gateway.log", "an agent key"]);

    let planted = Planted::new().await;
    let mut login = planted.shell("cat");
    login.args(["login", "api-key"]);
    let _ = Output::of(login, "sk-a-key-that-was-typed").await.ok();
    planted.verdict(1, &["the output of", "an API key"]);
    let planted = Planted::new().await;
    let file = planted.home.write("passphrase", "correct horse battery staple\n");
    let mut backup = planted.shell("true");
    backup.arg("--passphrase-file").arg(file);
    let _ = Output::of(backup, "").await.ok();
    planted.home.write("logs/auth-svc.log", "correct horse battery staple");
    planted.verdict(1, &["logs/auth-svc.log", "the content of a secret file"]);
}

#[tokio::test]
async fn answers_of_both_faces_are_searched() {
    let planted = Planted::new().await;
    let (access, refresh) = (planted.access.clone(), planted.refresh.clone());
    let header = access.clone();
    let app = axum::Router::new()
        .route("/body", axum::routing::get(async move || refresh))
        .route("/header", axum::routing::get(async move || [("x-token", header)]))
        .fallback(async move || [("grpc-status", "16".to_owned()), ("grpc-message", access)]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(async move { axum::serve(listener, app).await });
    let canary = planted.home.canary().expect("armed");
    canary.answers_at(&address);
    let http = Http::new(&format!("http://{address}"), None);
    let _: Answer = http.get("/body").await.is(200);
    planted.verdict(2, &["the body of an HTTP answer", "a refresh token"]);
    let _: Answer = http.get("/header").await.is(200);
    planted.verdict(4, &["the headers of an HTTP answer", "an access token"]);
    let mut client = crate::grpc::connect(&address, None, Some(canary));
    let _ = client.complete(crate::question("m", "hello")).await.expect_err("refused");
    planted.verdict(6, &["a gRPC answer", "an access token"]);
}

#[tokio::test]
async fn spans_are_searched_with_all_that_they_hold() {
    let planted = Planted::new().await;
    let collector = Collector::start().await;
    planted.home.export_to(&collector);
    let event = otlp::span::Event { name: format!("sent {}", planted.access), ..otlp::span::Event::default() };
    let span = otlp::Span { events: vec![event], ..otlp::Span::default() };
    let scope = otlp::ScopeSpans { spans: vec![span], ..otlp::ScopeSpans::default() };
    let spans = otlp::ResourceSpans { scope_spans: vec![scope], ..otlp::ResourceSpans::default() };
    let channel = Endpoint::from_shared(collector.endpoint()).expect("an address").connect_lazy();
    let request = ExportTraceServiceRequest { resource_spans: vec![spans] };
    TraceServiceClient::new(channel).export(request).await.expect("taken");
    planted.verdict(2, &["an OTLP export", "an access token"]);
}

#[tokio::test]
async fn arguments_environment_children_and_dumps_of_processes_are_looked_at() {
    let planted = Planted::new().await;
    let script = "sleep 60 & echo listening gateway x; wait";
    let mut command = planted.shell(script);
    command.arg(&planted.access).env("TOKEN", &planted.refresh);
    let log = planted.home.log_file("shell");
    let mut process = Process::spawn("shell", command, &log);
    process.listening(&["gateway"], crate::PATIENCE).await.expect("printed");
    let canary = planted.home.canary().expect("armed");
    let verdict = canary.verdict();
    for parts in [
        ["cmdline of shell", "holds an access token"],
        ["environ of shell", "holds a refresh token"],
        ["shell has started other processes", ""],
        ["shell may leave core dumps", "Max core file size"],
    ] {
        let told = verdict.iter().any(|one| parts.iter().all(|part| one.contains(part)));
        // A machine that forbids core dumps to everybody forbids them to the shell, too.
        let limited = parts[0].contains("core dumps") && no_core_here();
        assert!(told || limited, "{parts:?}: {verdict:#?}");
    }
    // What it printed is seen when it goes; the child is ended with it.
    let child = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.id())).expect("children");
    let child: i32 = child.trim().parse().expect("one child");
    let child = rustix::process::Pid::from_raw(child).expect("an id");
    rustix::process::kill_process(child, crate::Signal::KILL).expect("it was started by this test");
}

fn no_core_here() -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    (limit.current, limit.maximum) == (Some(0), Some(0))
}

#[tokio::test]
#[should_panic(expected = "secrets got out")]
async fn a_leak_fails_the_test_when_the_home_goes() {
    let sim = Sim::start(SimConfig::default()).await.expect("a simulator");
    let home = Home::new(&sim);
    let login = sim.state().seed_login(SeedLogin::account("acct-1"));
    home.write("logs/gateway.log", &login.id_token);
    drop(home);
}

#[tokio::test]
async fn backups_are_searched_wherever_they_are() {
    let planted = Planted::new().await;
    planted.home.write("elsewhere.backup", &planted.refresh);
    let mut command = planted.shell("true");
    command.arg("backup").arg(planted.home.path("elsewhere.backup"));
    let _ = Output::of(command, "").await.ok();
    planted.verdict(2, &["a backup holds a refresh token"]);
}
