//! The HTML 403 that sent people to log in again and again: what it means depends on the path that was called, and it
//! never says anything about the login.

use e2e::{Switchboard, question};
use serde_json::Value;

use crate::support::{CODEX, World, call, candidates, only_route, status, streamed, trace_of};

/// Every text that a person or a program gets to see when a call fails: on the command line with and without JSON, over
/// HTTP, streamed and not, and over gRPC with its details.
async fn everything_said(switchboard: &Switchboard) -> String {
    let as_json = call(switchboard, "codex/gpt-5.5").await.exits(1);
    let as_text = switchboard.cli(&["call", "-m", "codex/gpt-5.5", "-t", "Hello", "--trace"]).await.exits(1);
    let over_http = switchboard.http().respond(&streamed("Hello")).await;
    let status = switchboard.grpc().complete(question("codex/gpt-5.5", "Hello")).await.expect_err("failed");
    let calls = switchboard.cli(&["calls", "list", "--json"]).await.ok();
    let routes = switchboard.cli(&["models", "status"]).await.ok();
    let credentials = switchboard.cli(&["credentials", "list"]).await.ok();
    let details = String::from_utf8_lossy(status.details()).into_owned();
    [
        as_json.text(),
        as_text.text(),
        over_http.text(),
        status.message().to_owned(),
        details,
        calls.text(),
        routes.text(),
    ]
    .join("\n")
        + &credentials.text()
}

/// Fails if a text tells somebody to log in.
#[track_caller]
fn tells_nobody_to_log_in(said: &str) {
    let lower = said.to_lowercase();
    for advice in ["log in", "login codex", "re-auth", "reauth", "sign in", "authenticate again"] {
        assert!(!lower.contains(advice), "it says {advice:?}: {said}");
    }
}

e2e::in_each_topology! {
    /// A challenge on the right path is the edge's, and is called so.
    async fn a_challenge_is_the_edges_and_leaves_the_credential_alone(topology) {
        let (world, _) = World::with_login().await;
        // What is seen of the credential is the point here, and not when the egress is no longer tried.
        world.home.set("gateway.circuit_failures", "1000");
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "challenge");
        let failed = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        let error = &failed["error"];
        assert_eq!((&error["reason"], &error["service"]), (&"EDGE_CHALLENGE".into(), &"upstream".into()), "{failed}");
        assert_eq!(error["upstreamStatus"], 403);
        let ray = world.upstream()[0].cf_ray.clone();
        assert!(!ray.is_empty());
        assert_eq!(error["rayId"], ray.as_str(), "{failed}");
        assert!(error["message"].as_str().expect("a message").contains(&ray), "{failed}");
        let attempt = &trace_of(&failed)["attempts"][0];
        assert_eq!(
            (&attempt["rayId"], &attempt["reason"]),
            (&ray.as_str().into(), &"EDGE_CHALLENGE".into()),
            "{failed}"
        );
        let over_http = switchboard.http().respond(&streamed("Hello")).await.is(400);
        assert_eq!(over_http.json()["error"]["reason"], "EDGE_CHALLENGE");
        assert_eq!(over_http.header("x-should-retry"), "false");
        let over_grpc = switchboard.grpc().complete(question("codex/gpt-5.5", "Hello")).await.expect_err("challenged");
        assert_eq!(over_grpc.code(), tonic::Code::Unavailable);
        assert!(e2e::failure_from_status(&over_grpc, "gateway").ray_id.is_some());

        tells_nobody_to_log_in(&everything_said(&switchboard).await);
        // Each call was one attempt: nothing was tried again, and no token was refreshed for it.
        assert_eq!(world.sim.state().token_requests().len(), 0);

        let status = status(&switchboard).await;
        let route = only_route(&status);
        assert_eq!((&route["bound"]["credential"], &route["reason"]), (&"main".into(), &Value::Null), "{route}");
        assert_eq!(candidates(&route["candidates"]), [("main".to_owned(), "eligible".to_owned())]);
        let kept = switchboard.cli(&["credentials", "list", "--json"]).await.ok().json();
        assert_eq!(kept["credentials"][0]["state"], "ready", "{kept}");
        world.sim.state().set_scenario("acct-1", None);
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
    }

    /// So is a page that blocks.
    async fn a_block_is_the_edges_too(topology) {
        let (world, _) = World::with_login().await;
        // What is seen of the credential is the point here, and not when the egress is no longer tried.
        world.home.set("gateway.circuit_failures", "1000");
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "block");
        let failed = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        assert_eq!(failed["error"]["reason"], "EDGE_BLOCKED", "{failed}");
        tells_nobody_to_log_in(&everything_said(&switchboard).await);
        assert_eq!(only_route(&status(&switchboard).await)["bound"]["credential"], "main");
    }

    /// The very same page on a path that is not the target's says that the path is wrong, and names the right one.
    async fn a_base_url_that_ends_in_backend_api_is_a_wrong_endpoint(topology) {
        let (world, _) = World::with_login().await;
        let right = world.sim.codex_base_url();
        let wrong = right.strip_suffix("/codex").expect("the backend's path").to_owned();
        world.home.set("targets.chatgpt-codex.base_url", format!("\"{wrong}\""));
        let switchboard = world.start(topology).await;
        let failed = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        let error = &failed["error"];
        assert_eq!(error["reason"], "WRONG_ENDPOINT", "{failed}");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(&format!("{wrong}/responses")), "it names the URL that was called: {message}");
        let next = error["nextStep"].as_str().expect("a next step");
        for right in [right.as_str(), "https://chatgpt.com/backend-api/codex"] {
            assert!(message.contains(right) && next.contains(right), "it names the right URL: {message}; {next}");
        }
        assert!(next.contains("targets.chatgpt-codex") && next.contains("base_url"), "{next}");
        assert!(error["rayId"].is_string(), "{failed}");
        let over_http = switchboard.http().respond(&streamed("Hello")).await.is(400).json();
        assert_eq!(over_http["error"]["code"], "wrong_endpoint", "{over_http}");

        tells_nobody_to_log_in(&everything_said(&switchboard).await);
        assert_eq!(only_route(&status(&switchboard).await)["bound"]["credential"], "main");
        assert!(world.upstream().iter().all(|request| request.path == "/backend-api/responses"));
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 0);
        assert_eq!(world.sim.state().token_requests().len(), 0);
    }

    /// A wrong path on the real host does not even start.
    async fn a_wrong_path_on_chatgpt_com_is_refused_when_the_configuration_is_read(topology) {
        let world = World::new().await;
        world.home.set("targets.chatgpt-codex.base_url", "\"https://chatgpt.com/backend-api\"");
        let refused = crate::support::start_fails(&world.home, topology, "router-svc").await.exits(78);
        for part in ["switchboard.toml", "targets.chatgpt-codex.base_url", "https://chatgpt.com/backend-api/codex"] {
            assert!(refused.stderr.contains(part), "{part}: {refused}");
        }
    }
}
