//! Processes that are killed, stopped and told to read their configuration again.

use e2e::{Part, Signal, Switchboard, Topology, eventually_async, question};
use serde_json::Value;

use crate::support::{MODEL, World, call, lasting_files, only_route, status, streamed, whole};

/// The failure of a call while `part` is away.
async fn fails_without(switchboard: &Switchboard, part: Part) {
    let failed = call(switchboard, "codex/gpt-5.5").await.exits(1).json();
    let error = &failed["error"];
    assert_eq!(error["reason"], "PEER_UNAVAILABLE", "{failed}");
    assert!(error["message"].as_str().expect("a message").contains(part.name()), "it names {}: {failed}", part.name());
    let answer = switchboard.http().respond(&whole("Hello")).await.is(503);
    assert!(!answer.header("retry-after").is_empty());
    let body = answer.json();
    assert_eq!(
        (&body["error"]["reason"], &body["error"]["type"]),
        (&"PEER_UNAVAILABLE".into(), &"server_error".into())
    );
    assert!(body["error"]["message"].as_str().expect("a message").contains(part.name()), "{body}");
}

/// Any of the three behind the gateway may be killed: the call says which one does not answer, and the next one after
/// its return is answered. Only processes of their own can be killed one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_service_is_named_and_its_return_is_enough() {
    let (world, _) = World::with_login().await;
    let mut switchboard = world.start(Topology::FourProcesses).await;
    for part in [Part::Router, Part::Auth, Part::Transport] {
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        let _ = switchboard.http().respond(&whole("Hello")).await.is(200);
        switchboard.kill(part).await;
        fails_without(&switchboard, part).await;
        // Status says what a call says, whichever service is away.
        let told = switchboard.cli(&["models", "status", "--check", "--json"]).await.exits(1).json();
        assert!(told.to_string().contains("PEER_UNAVAILABLE"), "{told}");
        let sick = switchboard.cli(&["health", "--json"]).await.exits(1).json();
        let services = sick["services"].as_array().expect("services");
        let not_serving: Vec<_> =
            services.iter().filter(|one| one["status"] != "serving").map(|one| one["service"].as_str()).collect();
        // The gateway is not ready without it, and says so here as it does at `/readyz`.
        assert_eq!(not_serving, [Some("gateway"), Some(part.name())], "{sick}");
        assert!(services[0]["error"].to_string().contains(part.name()), "{sick}");
        let ready = reqwest::get(format!("{}/readyz", switchboard.admin_url(Part::Gateway))).await.expect("an answer");
        assert_eq!(ready.status().as_u16(), 503);
        assert!(ready.text().await.expect("a text").contains(part.name()));
        switchboard.restart().await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        let _ = switchboard.cli(&["health"]).await.ok();
    }
}

/// transport-svc dies in the middle of a stream: the caller learns of it in the stream, and nothing is sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_killed_in_mid_stream_ends_the_stream_with_one_failure() {
    let (world, _) = World::with_login().await;
    let mut switchboard = world.start(Topology::FourProcesses).await;
    let mut response = switchboard.http().open(&streamed("[[sim:long:100000:16:20]]")).await;
    let mut body = response.chunk().await.expect("no error").expect("a chunk").to_vec();
    switchboard.kill(Part::Transport).await;
    while let Some(chunk) = response.chunk().await.expect("the stream ends as it should") {
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&body);
    let last = text.trim_end().rsplit("\n\n").next().expect("an event");
    assert!(last.starts_with("event: response.failed\n") && last.contains("PEER_UNAVAILABLE"), "{last}");
    assert!(last.contains("transport-svc"), "{last}");
    let id = |event: &str| {
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
        serde_json::from_str::<Value>(data).expect("JSON")["response"]["id"].clone()
    };
    assert_eq!(id(last), id(&text), "under the id of the response that began: {last}");
    assert_eq!(world.upstream().len(), 1);
    switchboard.restart().await;
    let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
}

e2e::in_each_topology! {
    /// A power cut and a new start: credentials, keys and orders are all there.
    async fn everything_stored_survives_a_power_cut(topology) {
        let (world, _) = World::with_login().await;
        world.login("acct-2", "spare").await;
        let mut switchboard = world.start(topology).await;
        let made = switchboard.cli(&["keys", "create", "mine", "--agent", "me", "--json"]).await.ok().json();
        let key = made["key"].as_str().expect("a key").to_owned();
        let _ = switchboard.cli(&["credentials", "order", "openai-codex", "spare", "main"]).await.ok();
        switchboard.kill_all().await;
        let gone = switchboard.cli(&["call", "--message", "Hello"]).await.exits(1);
        assert!(gone.stderr.contains("PEER_UNAVAILABLE") && gone.stderr.contains("switchboard up"), "{gone}");
        switchboard.restart().await;
        let answer = switchboard.http_as(Some(&key)).respond(&whole("Hello")).await.is(200);
        assert_eq!(answer.json()["status"], "completed");
        assert_eq!(world.upstream().pop().expect("a request").credential.as_deref(), Some("acct-2"));
    }

    /// SIGTERM: exit code 0, streams get their time, sockets are gone, and what is on disk is whole.
    async fn a_stop_is_clean(topology) {
        let (world, _) = World::with_login().await;
        let mut switchboard = world.start(topology).await;
        let http = switchboard.http();
        let running = http.open(&streamed("[[sim:long:40:16:25]]")).await;
        let ended = switchboard.stop().await;
        assert_eq!(ended.len(), if topology == Topology::OneProcess { 1 } else { 4 });
        for (name, status) in ended {
            assert_eq!(status.code(), Some(0), "{name}: {}", world.home.logs());
        }
        let text = running.text().await.expect("the stream that was open came to its end");
        assert!(text.contains("event: response.completed"), "{text}");
        let left = std::fs::read_dir(world.home.data_dir())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name());
        let sockets: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".sock")).collect();
        assert!(sockets.is_empty(), "{sockets:?}");
        let before = lasting_files(&world.home);
        let again = world.start(topology).await;
        let _ = call(&again, "codex/gpt-5.5").await.ok();
        assert_eq!(
            before.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            lasting_files(&world.home).iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
    }

    /// SIGHUP reads the routes again. A bad file keeps the old ones in force and says so until a good one comes.
    async fn a_bad_configuration_is_rejected_and_told(topology) {
        let (world, _) = World::with_login().await;
        world.api_key("paid").await;
        let mut switchboard = world.start(topology).await;
        let before = status(&switchboard).await;
        assert_eq!(before["config"]["rejected"], Value::Null);

        world.home.set("defaults.model", "\"nobody/knows-this\"");
        switchboard.process(Part::Router).signal(Signal::HUP);
        let rejected = async || status(&switchboard).await["config"]["rejected"].clone();
        eventually_async("the rejection is shown", async || rejected().await != Value::Null).await;
        let text = rejected().await.as_str().expect("a text").to_owned();
        assert!(text.contains("switchboard.toml") && text.contains("defaults.model"), "{text}");
        let told = switchboard.cli(&["models", "status"]).await.ok();
        assert!(told.stdout.contains("REJECTED"), "{told}");
        let now = status(&switchboard).await;
        assert_eq!(now["config"]["digest"], before["config"]["digest"], "the old table is in force");
        assert_eq!(call(&switchboard, "codex/gpt-5.5").await.ok().json()["status"], "ok");

        world.home.set("defaults.model", "\"openai/gpt-5.5\"");
        switchboard.process(Part::Router).signal(Signal::HUP);
        eventually_async("the good file is in force", async || {
            status(&switchboard).await["resolvedDefault"] == "openai/gpt-5.5"
        })
        .await;
        let now = status(&switchboard).await;
        assert_eq!(now["config"]["rejected"], Value::Null);
        assert_ne!(now["config"]["digest"], before["config"]["digest"]);
        assert_eq!(only_route(&now)["bound"]["credential"], "paid");
        let answer = switchboard.grpc().complete(question("", "Hello")).await.expect("answered").into_inner();
        let trace = answer.result.and_then(|r| r.meta).and_then(|m| m.execution_trace).expect("a trace");
        assert_eq!(trace.winner_provider.as_deref(), Some("openai"));
        assert_eq!(trace.route_table, now["config"]["digest"].as_str().expect("a digest"), "answers carry the digest");
        let _ = switchboard.grpc().complete(question(MODEL, "Hello")).await.expect("answered");
    }
}
