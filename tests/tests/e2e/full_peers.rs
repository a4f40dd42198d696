//! A service behind the gateway that is full: every face says which one, and what to do, and comes back with it.

use std::io::Write;
use std::process::Command;

use domain::{Failure, Reason};
use e2e::{Http, Part, Switchboard, eventually_async, failure_from_status, question, stream_question};
use proto::router::v1::router_service_client::RouterServiceClient;
use proto::router::v1::{ReloadRequest, ResolveRequest};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::support::{MODEL, World, streamed, whole};

/// Asks by every face, and holds that each tells the same of who is full.
async fn every_face_tells(switchboard: &Switchboard, service: &str, setting: &str) {
    let (http, grpc) = (switchboard.http(), switchboard.grpc());
    let chat = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello" }] });
    for (path, body) in [
        ("/v1/responses", streamed("Hello")),
        ("/v1/responses", whole("Hello")),
        ("/backend-api/codex/responses", streamed("Hello")),
        ("/v1/responses/compact", json!({ "model": MODEL, "input": [] })),
        ("/v1/chat/completions", chat),
    ] {
        let answer = http.post(path, &body).await.is(503);
        assert_eq!(answer.header("retry-after"), "1", "{path}");
        let error = answer.json()["error"].clone();
        assert_eq!(
            (&error["reason"], &error["service"], &error["code"]),
            (&"SHED".into(), &service.into(), &"switchboard_full".into()),
            "{path}: {error}"
        );
        assert!(error["next_step"].as_str().is_some_and(|step| step.contains(setting)), "{path}: {error}");
    }
    let told = |failure: Failure| {
        assert_eq!((failure.reason.as_str(), failure.service.as_str()), ("SHED", service), "{failure:?}");
        assert_eq!(failure.retry_after_seconds, Some(1.0), "{failure:?}");
        assert!(failure.next_step.contains(setting), "{failure:?}");
    };
    let refused = grpc.clone().complete(question(MODEL, "Hello")).await.expect_err("full");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    told(failure_from_status(&refused, "gateway"));
    let refused = match grpc.clone().respond(stream_question(MODEL, "Hello")).await {
        Ok(stream) => stream.into_inner().message().await.expect_err("full"),
        Err(refused) => refused,
    };
    told(failure_from_status(&refused, "gateway"));
    // A service that is full is no sick one.
    for part in Part::ALL {
        let _ = Http::new(&switchboard.admin_url(part), None).get("/readyz").await.is(200);
    }
}

async fn shed(switchboard: &Switchboard, part: Part, what: &str) -> bool {
    let page = Http::new(&switchboard.admin_url(part), None).get("/metrics").await.is(200).text();
    page.contains(&format!("switchboard_shed_total{{what=\"{what}\"}}"))
}

/// A configuration file that whoever reads it waits for.
struct Waiting<'a>(&'a World);

impl<'a> Waiting<'a> {
    fn put(world: &'a World) -> Self {
        let file = world.home.config_file();
        std::fs::rename(&file, world.home.path("config.before")).expect("renamed");
        assert!(Command::new("mkfifo").arg(&file).status().expect("mkfifo runs").success());
        Self(world)
    }

    /// Lets go who reads it, with what it held before; from now on it is a file again.
    fn end(self) {
        let (file, before) = (self.0.home.config_file(), self.0.home.path("config.before"));
        let text = std::fs::read(&before).expect("read");
        let mut pipe = std::fs::OpenOptions::new().write(true).open(&file).expect("somebody reads it");
        std::fs::rename(before, file).expect("renamed");
        pipe.write_all(&text).expect("written");
    }
}

impl Drop for Waiting<'_> {
    /// A test that fails before the end leaves no file behind that its own account of what happened would wait for.
    fn drop(&mut self) {
        let _ = std::fs::rename(self.0.home.path("config.before"), self.0.home.config_file());
    }
}

e2e::in_each_topology! {
    /// A call that waits for the identity provider takes the one place of auth-svc.
    async fn a_full_auth_svc_is_named_and_operators_get_in(topology) {
        let world = World::new().await;
        let _ = world.expired("acct-1", "main").await;
        world.home.set("auth.max_calls", "1");
        let switchboard = world.start(topology).await;
        world.sim.state().set_token_scenario("acct-1", Some("stall".parse().expect("a scenario")));
        let (grpc, tasks) = (switchboard.grpc(), TaskTracker::new());
        let waits = tasks.spawn(async move { grpc.clone().complete(question(MODEL, "Reply exactly: OK")).await });
        eventually_async("its refresh is under way", async || !world.sim.state().token_requests().is_empty()).await;

        every_face_tells(&switchboard, "auth-svc", "[auth] max_calls").await;
        assert!(shed(&switchboard, Part::Auth, "auth_calls").await);
        let listed = switchboard.cli(&["credentials", "list", "--json"]).await.ok().json();
        assert_eq!(listed["credentials"].as_array().map(Vec::len), Some(1), "{listed}");
        let failed = switchboard.cli(&["call", "--model", MODEL, "--message", "Hello", "--json"]).await.exits(1).json();
        let error: &Value = &failed["error"];
        assert_eq!((&error["reason"], &error["service"]), (&"SHED".into(), &"auth-svc".into()), "{failed}");
        // Its place is given back with the call that held it.
        waits.abort();
        let _ = waits.await;
        eventually_async("there is a place again", async || {
            switchboard.http().get("/v1/models").await.status == 200
        })
        .await;
    }

    /// A reload that waits for its file takes the one place of router-svc.
    async fn a_full_router_svc_is_named(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("router.max_calls", "1");
        let switchboard = world.start(topology).await;
        let waiting = Waiting::put(&world);
        let (router, tasks) = (RouterServiceClient::new(switchboard.peer(Part::Router)), TaskTracker::new());
        let mut operator = router.clone();
        let reload = tasks.spawn(async move {
            // A question of the gateway's may have the place just now.
            loop {
                match operator.reload(ReloadRequest {}).await {
                    Err(refused) if failure_from_status(&refused, "router-svc").reason == Reason::Shed => {}
                    answered => return answered,
                }
            }
        });
        eventually_async("its place is taken", async || router.clone().resolve(ResolveRequest::default()).await.is_err()).await;

        every_face_tells(&switchboard, "router-svc", "[router] max_calls").await;
        let error = switchboard.http().get("/v1/models").await.is(503).json()["error"].clone();
        assert_eq!((&error["reason"], &error["service"]), (&"SHED".into(), &"router-svc".into()), "{error}");
        assert!(shed(&switchboard, Part::Router, "router_calls").await);
        waiting.end();
        reload.await.expect("no panic").expect("reloaded");
        let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
    }

    /// A stream that goes on takes the one place of transport-svc.
    async fn a_full_transport_svc_is_named(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("transport.max_calls", "1");
        let switchboard = world.start(topology).await;
        world.sim.state().hold_streams(true);
        let open = switchboard.http().open(&streamed("Reply exactly: OK")).await;
        assert_eq!(open.status(), 200);
        every_face_tells(&switchboard, "transport-svc", "[transport] max_calls").await;
        world.sim.state().hold_streams(false);
        assert!(open.text().await.expect("whole").contains("response.completed"));
        let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
    }
}
