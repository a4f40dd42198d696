//! The service as its peers see it: in process, and over a unix socket.

#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that cannot be made is a failed test")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use config::{Config, LoadOptions};
use domain::Reason;
use proto::router::v1::router_service_client::RouterServiceClient;
use proto::router::v1::{ExplainRequest, ListModelsRequest, ListModelsResponse, ReloadRequest, ResolveRequest};
use router_svc::{Loader, RouterService, build};
use rustix::process::{Pid, Signal, kill_process};
use service_kit::{Bound, ListenAddress, Mounted, PeerChannel, ServeOptions, failure_from_status, serve};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Client = RouterServiceClient<PeerChannel>;

/// A loader over a real file, as the binaries have it.
fn file_loader(dir: &Path) -> Loader {
    let options = LoadOptions { data_dir: dir.to_owned(), ..LoadOptions::default() };
    Arc::new(move || config::load(&options).map(|loaded| loaded.config).map_err(|error| error.to_string()))
}

fn write(dir: &Path, text: &str) {
    std::fs::write(dir.join(config::FILE_NAME), text).expect("written");
}

fn service(dir: &Path) -> RouterService {
    let loader = file_loader(dir);
    build(&loader().expect("a good file"), loader).expect("a table")
}

fn in_process(service: &RouterService) -> Client {
    Client::new(PeerChannel::in_process("router-svc", service.mounted().router()))
}

fn resolve(model: &str, agent: &str) -> ResolveRequest {
    ResolveRequest { model: model.into(), agent: agent.into(), allowed: vec![] }
}

#[tokio::test]
async fn resolves_alike_in_process_and_over_a_socket() {
    let dir = tempfile::tempdir().expect("tempdir");
    let service = service(dir.path());
    let path = dir.path().join("router-svc.sock");
    let bound = Bound::bind(&ListenAddress::Unix(path.clone())).await.expect("bound");
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let router = service.mounted().listenable().await.expect("reflection");
    tasks.spawn(serve(router, bound, ServeOptions::default(), stop.clone()));

    let socket = PeerChannel::unix("router-svc", &path);
    service_kit::check_health(socket.clone()).await.expect("serving");
    for mut client in [in_process(&service), Client::new(socket)] {
        let answer = client.resolve(resolve("codex/gpt-5.5", "main")).await.expect("a route");
        assert!(!service_kit::hop_info(answer.metadata()).host.is_empty());
        let answer = answer.into_inner();
        let route = answer.routes.first().expect("one");
        assert_eq!(route.url, "https://chatgpt.com/backend-api/codex/responses");
        assert_eq!(answer.table_digest.len(), 16);

        let status = client.resolve(resolve("opneai/gpt-5.5", "main")).await.expect_err("unknown");
        assert_eq!(status.code(), tonic::Code::NotFound);
        let failure = failure_from_status(&status, "router-svc");
        assert_eq!((failure.reason, failure.service.as_str()), (Reason::RouteUnknown, "router-svc"));
        assert!(failure.message.contains("openai/gpt-5.5"), "{}", failure.message);
        let status = client.resolve(resolve("a b", "main")).await.expect_err("malformed");
        let failure = failure_from_status(&status, "router-svc");
        assert_eq!((failure.reason, failure.param.as_deref()), (Reason::RequestInvalid, Some("model")));
    }
    stop.cancel();
    tasks.close();
    tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.expect("ends");
}

#[tokio::test]
async fn strangers_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bound = Bound::bind(&"127.0.0.1:0".parse().expect("address")).await.expect("bound");
    let address = bound.address().expect("address");
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let router = Mounted::new().merge(service(dir.path()).mounted()).listenable().await.expect("reflection");
    tasks.spawn(serve(router, bound, ServeOptions::default(), stop.clone()));
    let channel = tonic::transport::Endpoint::new(format!("http://{address}")).expect("endpoint").connect_lazy();
    let status = RouterServiceClient::new(channel).resolve(resolve("", "main")).await.expect_err("refused");
    assert_eq!(failure_from_status(&status, "router-svc").reason, Reason::PeerRefused);
    stop.cancel();
}

/// A reload that waits for its file takes the one place there is; health is asked as ever, and the place comes back.
#[tokio::test]
async fn more_questions_than_there_is_room_for_are_shed() {
    let dir = tempfile::tempdir().expect("tempdir");
    write(dir.path(), "[router]\nmax_calls = 1");
    let (file, (let_go, gate)) = (file_loader(dir.path()), std::sync::mpsc::channel::<()>());
    let (config, gate) = (file().expect("a good file"), Mutex::new(gate));
    let loader: Loader = Arc::new(move || {
        let _ = gate.lock().expect("unharmed").recv();
        file()
    });
    let service = build(&config, loader).expect("a table");
    let path = dir.path().join("router-svc.sock");
    let bound = Bound::bind(&ListenAddress::Unix(path.clone())).await.expect("bound");
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let router = service.mounted().listenable().await.expect("reflection");
    tasks.spawn(serve(router, bound, ServeOptions::default(), stop.clone()));
    let socket = PeerChannel::unix("router-svc", &path);
    let mut clients = [in_process(&service), Client::new(socket.clone())];

    let mut operator = in_process(&service);
    let reload = tasks.spawn(async move { operator.reload(ReloadRequest {}).await });
    for client in &mut clients {
        let refused = loop {
            match client.resolve(resolve("codex/gpt-5.5", "main")).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(status) => break status,
            }
        };
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        let failure = failure_from_status(&refused, "gateway");
        assert_eq!((failure.reason, failure.service.as_str()), (Reason::Shed, "router-svc"));
        assert_eq!(failure.retry_after_seconds, Some(1.0));
        assert!(failure.next_step.contains("[router] max_calls"), "{failure:?}");
        service_kit::check_health(socket.clone()).await.expect("serving");
    }
    drop(let_go);
    reload.await.expect("no panic").expect("reloaded");
    for client in &mut clients {
        client.resolve(resolve("codex/gpt-5.5", "main")).await.expect("a place");
    }
    stop.cancel();
    tasks.close();
    tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.expect("ends");
}

#[tokio::test]
async fn explains_without_errors() {
    let dir = tempfile::tempdir().expect("tempdir");
    let service = service(dir.path());
    let mut client = in_process(&service);
    for (model, reason) in [("", None), ("nobody/x", Some("ROUTE_UNKNOWN")), ("a b", Some("REQUEST_INVALID"))] {
        let request = ExplainRequest { model: model.into(), agent: "main".into() };
        let answer = client.explain(request).await.expect("an answer").into_inner();
        assert_eq!(answer.refusal.as_ref().map(|refusal| refusal.reason.as_str()), reason);
        assert_eq!(answer.routes.is_empty(), reason.is_some());
        assert!(!answer.steps.is_empty() && answer.table_digest.len() == 16);
    }
}

#[tokio::test]
async fn lists_models_and_agents() {
    let dir = tempfile::tempdir().expect("tempdir");
    let text = r#"
        [defaults]
        model = "codex/gpt-5.5"
        fallbacks = ["openai/gpt-5.5"]
        [targets.lab]
        kind = "custom"
        base_url = "http://127.0.0.1:8080/v1"
        [providers.lab]
        target = "lab"
        realm = "api-key"
        [agents.tester]
        model = "lab/tiny"
        fallbacks = []
        allowed = ["lab/*", "codex-cli/gpt-5.5"]
        credentials = ["bench"]
    "#;
    write(dir.path(), text);
    let service = service(dir.path());
    let mut client = in_process(&service);

    let all = client.list_models(ListModelsRequest::default()).await.expect("a list").into_inner();
    assert_eq!(
        (all.configured_default.as_str(), all.default_model.as_str()),
        ("codex/gpt-5.5", "openai-codex/gpt-5.5")
    );
    assert_eq!((all.fallbacks.as_slice(), all.rejected), (["openai/gpt-5.5".to_owned()].as_slice(), None));
    let models: Vec<_> = all.models.iter().map(|m| (m.id.as_str(), m.tags.join(" "), m.local)).collect();
    assert_eq!(
        models,
        [
            ("lab/tiny", String::new(), true),
            ("openai-codex/gpt-5.4-mini", "configured".into(), false),
            ("openai-codex/gpt-5.5", "default configured".into(), false),
            ("openai/gpt-5.5", "fallback configured".into(), false),
        ]
    );
    let gpt = all.models.iter().find(|m| m.id == "openai-codex/gpt-5.5").expect("listed");
    assert_eq!(
        (gpt.name.as_str(), gpt.context_window, gpt.max_output_tokens),
        ("GPT-5.5", Some(272_000), Some(128_000))
    );
    assert_eq!(gpt.input, ["text", "image"]);
    let agents: Vec<_> = all.agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(agents, ["main", "tester"]);

    let request = ListModelsRequest { agent: "tester".into(), allowed: vec![] };
    let own = client.list_models(request).await.expect("a list").into_inner();
    let models: Vec<_> = own.models.iter().map(|m| (m.id.as_str(), m.tags.join(" "))).collect();
    assert_eq!(models, [("lab/tiny", "default".to_owned()), ("openai-codex/gpt-5.5", "configured".to_owned())]);
    let agent = own.agents.first().expect("itself");
    assert_eq!((own.agents.len(), agent.model.as_str()), (1, "lab/tiny"));
    assert_eq!(agent.allowed, ["lab/*", "openai-codex/gpt-5.5"]);
    assert_eq!((agent.credentials.as_slice(), agent.fallbacks.len()), (["bench".to_owned()].as_slice(), 0));

    let request = ListModelsRequest { agent: "stranger".into(), allowed: vec!["openai/*".into()] };
    let own = client.list_models(request).await.expect("a list").into_inner();
    assert_eq!(own.models.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(), ["openai/gpt-5.5"]);
    assert_eq!(own.agents.first().expect("itself").model, "openai-codex/gpt-5.5");
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_table_and_says_so() {
    let dir = tempfile::tempdir().expect("tempdir");
    write(dir.path(), "[defaults]\nmodel = \"codex/gpt-5.5\"\n");
    let service = service(dir.path());
    let mut client = in_process(&service);
    let before = client.reload(ReloadRequest {}).await.expect("reloaded").into_inner();
    assert_eq!((before.changed, before.rejected), (false, None));

    write(dir.path(), "[targets.chatgpt-codex]\nbase_url = \"https://chatgpt.com/backend-api\"\n");
    let bad = client.reload(ReloadRequest {}).await.expect("answered").into_inner();
    let why = bad.rejected.expect("rejected");
    assert!(why.contains("switchboard.toml:2") && why.contains("/backend-api/codex"), "{why}");
    assert_eq!((bad.changed, &bad.table_digest), (false, &before.table_digest));
    let list = client.list_models(ListModelsRequest::default()).await.expect("a list").into_inner();
    assert_eq!((list.rejected, &list.table_digest), (Some(why), &before.table_digest));
    let answer = client.resolve(resolve("", "main")).await.expect("the old route").into_inner();
    assert_eq!(answer.table_digest, before.table_digest);

    write(dir.path(), "[defaults]\nmodel = \"openai/gpt-5.5\"\n");
    let good = client.reload(ReloadRequest {}).await.expect("reloaded").into_inner();
    assert_eq!((good.changed, good.rejected), (true, None));
    assert_ne!(good.table_digest, before.table_digest);
    let list = client.list_models(ListModelsRequest::default()).await.expect("a list").into_inner();
    assert_eq!((list.rejected, list.default_model.as_str()), (None, "openai/gpt-5.5"));
    let answer = client.resolve(resolve("", "main")).await.expect("a route").into_inner();
    assert_eq!(answer.routes.first().expect("one").realm, "api-key");
}

/// What `config::check` lets through, or a caller that did not check, must not get past the table either.
#[tokio::test]
async fn a_table_that_cannot_be_built_is_a_rejected_reload_too() {
    let current = Arc::new(Mutex::new(Config::default()));
    let shared = Arc::clone(&current);
    let loader: Loader = Arc::new(move || Ok(shared.lock().expect("lock").clone()));
    let service = build(&Config::default(), loader).expect("a table");
    current.lock().expect("lock").defaults.fallbacks.push("nobody/x".into());
    let outcome = service.reload();
    assert!(outcome.rejected.expect("rejected").starts_with("defaults.fallbacks: "));
    current.lock().expect("lock").defaults.fallbacks.clear();
    assert_eq!(service.reload().rejected, None);
    (service.readiness())().await.expect("ready");
}

/// A route must not show another URL than the call will use, and transport-svc reads its targets at its start.
#[tokio::test]
async fn a_target_that_has_moved_takes_a_restart() {
    let current = Arc::new(Mutex::new(Config::default()));
    let shared = Arc::clone(&current);
    let loader: Loader = Arc::new(move || Ok(shared.lock().expect("lock").clone()));
    let service = build(&Config::default(), loader).expect("a table");
    if let Some(target) = current.lock().expect("lock").targets.get_mut("chatgpt-codex") {
        target.base_url = "http://127.0.0.1:9/backend-api/codex".into();
    }
    let why = service.reload().rejected.expect("rejected");
    assert!(why.contains("targets.chatgpt-codex.base_url") && why.contains("restart"), "{why}");
    *current.lock().expect("lock") = Config::default();
    assert_eq!(service.reload().rejected, None);
}

/// The real process: it says where it listens, takes SIGHUP for a reload and SIGTERM for the end.
#[tokio::test]
async fn the_process_reloads_at_hangup() {
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let dir = tempfile::Builder::new().permissions(private).tempdir().expect("tempdir");
    let log = std::fs::File::create(dir.path().join("log")).expect("made");
    let mut process = tokio::process::Command::new(env!("CARGO_BIN_EXE_router-svc"))
        .env_clear()
        .args(["--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("started");
    // Read from until the end: a closed pipe would be an error of its own.
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    let line = lines.next_line().await.expect("readable").unwrap_or_default();
    let socket = dir.path().join("router-svc.sock");
    assert_eq!(line, format!("listening router-svc unix://{}", socket.display()));
    let channel = PeerChannel::unix("router-svc", &socket);
    service_kit::check_health(channel.clone()).await.expect("serving");

    let mut client = Client::new(channel);
    let id = process.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
    let signal = |signal| kill_process(id, signal);
    write(dir.path(), "[defaults]\nmodel = \"nobody/x\"\n");
    signal(Signal::HUP).expect("sent");
    let list = until(&mut client, |list| list.rejected.is_some()).await;
    assert_eq!(list.default_model, "openai-codex/gpt-5.5", "the old table is in force");
    write(dir.path(), "[defaults]\nmodel = \"openai/gpt-5.5\"\n");
    signal(Signal::HUP).expect("sent");
    until(&mut client, |list| list.rejected.is_none() && list.default_model == "openai/gpt-5.5").await;

    signal(Signal::TERM).expect("sent");
    drop(client);
    let status = process.wait().await.expect("ended");
    let log = std::fs::read_to_string(dir.path().join("log")).expect("a log");
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("the old route table stays in force"), "{log}");
}

/// Asks for the list until it is as it should be.
async fn until(client: &mut Client, done: impl Fn(&ListModelsResponse) -> bool) -> ListModelsResponse {
    for _ in 0..1000 {
        let list = client.list_models(ListModelsRequest::default()).await.expect("a list").into_inner();
        if done(&list) {
            return list;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the reload did not take effect within 10 s");
}

#[tokio::test]
async fn a_loader_that_panics_takes_nothing_with_it() {
    let loader: Loader = Arc::new(|| panic!("a defect"));
    let service = build(&Config::default(), loader).expect("a table");
    let mut client = in_process(&service);
    for _ in 0..2 {
        let status = client.reload(ReloadRequest {}).await.expect_err("failed");
        assert_eq!(failure_from_status(&status, "router-svc").reason, Reason::Internal);
    }
    client.resolve(resolve("", "main")).await.expect("the old table");
}
