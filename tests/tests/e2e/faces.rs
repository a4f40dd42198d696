//! The agents' port as clients of every kind meet it.

use e2e::{Answer, question};
use reqwest::Method;
use serde_json::json;

use crate::support::{MODEL, World, streamed, whole};

e2e::in_each_topology! {
    /// Models in OpenAI's shape, with the empty list that Codex reads.
    async fn models_are_listed(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let http = switchboard.http();
        let listed = http.get("/v1/models").await.is(200).json();
        assert_eq!((&listed["object"], &listed["models"]), (&"list".into(), &json!([])), "{listed}");
        let data = listed["data"].as_array().expect("data");
        let model = data.iter().find(|model| model["id"] == MODEL).expect("the default model");
        assert_eq!((&model["object"], &model["owned_by"]), (&"model".into(), &"openai-codex".into()), "{model}");
        assert!(model["created"].is_i64());
        for name in [MODEL, "codex/gpt-5.5", "gpt-5.5"] {
            let one = http.get(&format!("/v1/models/{name}")).await.is(200).json();
            assert_eq!(one["id"], MODEL, "{name}: {one}");
        }
        let unknown = http.get("/v1/models/nobody/knows").await.is(404).json();
        assert_eq!(unknown["error"]["reason"], "NOT_FOUND", "{unknown}");
        assert_eq!(http.get("/backend-api/codex/models").await.is(200).json(), listed);

        let told = switchboard.cli(&["models", "list", "--json"]).await.ok().json();
        let models = told["models"].as_array().expect("models");
        let of = |id: &str| models.iter().find(|model| model["id"] == id).expect("a model").clone();
        assert_eq!((&of(MODEL)["auth"], &of(MODEL)["reason"]), (&true.into(), &serde_json::Value::Null));
        assert!(of(MODEL)["tags"].as_array().expect("tags").contains(&"default".into()));
        let platform = models.iter().find(|model| model["id"].as_str().is_some_and(|id| id.starts_with("openai/")));
        let platform = platform.expect("a model of the platform");
        assert_eq!((&platform["auth"], &platform["reason"]), (&false.into(), &"missing".into()), "{platform}");
    }

    /// What the upstream lists joins the list, and a list that cannot be read any more stays as it was.
    async fn models_of_the_upstream_are_listed(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("models.\"openai-codex/gpt-5.4-mini\".name", "\"Mini\"");
        let switchboard = world.start(topology).await;
        let listed = switchboard.http().get("/v1/models").await.is(200).json();
        let data = listed["data"].as_array().expect("data");
        let of = |id: &str| data.iter().find(|model| model["id"] == id).expect("a model");
        assert_eq!((&of(MODEL)["bound"], &of("openai/gpt-5.5")["bound"]), (&true.into(), &false.into()), "{listed}");
        assert_eq!(of("openai/gpt-5.5")["reason"], "missing");
        let mini = of("openai-codex/gpt-5.4-mini");
        assert_eq!((&mini["name"], &mini["context_window"]), (&"Mini".into(), &272_000.into()), "the upstream completes");
        let told = switchboard.cli(&["models", "list", "--json"]).await.ok().json();
        let upstream = &told["upstream"][0];
        assert_eq!((&upstream["provider"], &upstream["credential"]), (&"openai-codex".into(), &"main".into()), "{told}");
        assert_eq!((&upstream["models"], &upstream["error"]), (&2.into(), &serde_json::Value::Null), "{told}");
        assert!(upstream["fetchedAt"].is_number());
        let asked = world.sim.state().requests_to("/backend-api/codex/models");
        assert_eq!(asked.len(), 1, "once for both");
    }

    /// A call is told again by its id, over HTTP, gRPC and the command line.
    async fn a_call_is_found_by_its_id(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let answer = switchboard.http().respond(&streamed("Reply exactly: OK")).await.is(200);
        let id = answer.header("x-switchboard-call-id").to_owned();
        let record = switchboard.http().get(&format!("/v1/switchboard/calls/{id}")).await.is(200).json();
        assert_eq!(
            (&record["callId"], &record["status"], &record["face"]),
            (&id.as_str().into(), &"ok".into(), &"http".into())
        );
        let attempt = &record["executionTrace"]["attempts"][0];
        let request = world.upstream().pop().expect("a request");
        assert_eq!(attempt["upstreamRequestId"], request.request_id.as_str(), "{record}");
        assert_eq!((&attempt["egress"], &attempt["status"]), (&"local".into(), &200.into()), "{record}");
        assert_eq!(record["usage"]["cachedInputTokens"], 3, "{record}");
        let shown = switchboard.cli(&["calls", "show", &id, "--json"]).await.ok().json();
        assert_eq!(shown["executionTrace"]["traceId"], record["executionTrace"]["traceId"], "{shown}");
        let asked = proto::gateway::v1::GetCallRequest { call_id: id.clone() };
        let found = switchboard.grpc().get_call(asked).await.expect("found").into_inner().call.expect("a call");
        assert_eq!(found.call_id, id);
        let missing = switchboard.http().get("/v1/switchboard/calls/no-such-call").await.is(404).json();
        assert_eq!(missing["error"]["reason"], "NOT_FOUND");
        let listed =
            switchboard.grpc().list_calls(proto::gateway::v1::ListCallsRequest::default()).await.expect("listed");
        assert_eq!(listed.into_inner().calls.len(), 1);
    }

    /// What is not served says so in JSON, with the status that clients act on.
    async fn what_is_not_served_says_so(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let http = switchboard.http();
        for (method, path) in [
            (Method::POST, "/v1/embeddings"),
            (Method::GET, "/"),
            (Method::GET, "/v1/nothing"),
            (Method::PUT, "/backend-api/responses"),
        ] {
            let answer = Answer::of(http.request(method, path).json(&json!({ "input": "x" }))).await.is(404);
            assert_eq!(answer.header("content-type"), "application/json");
            let error = &answer.json()["error"];
            assert_eq!((&error["reason"], &error["type"]), (&"NOT_FOUND".into(), &"invalid_request_error".into()));
            assert!(error["message"].as_str().expect("a message").contains(path));
            assert_eq!(answer.header("x-should-retry"), "false");
        }
        for (method, path) in
            [(Method::GET, "/v1/responses"), (Method::DELETE, "/v1/responses"), (Method::POST, "/v1/models")]
        {
            let answer = Answer::of(http.request(method, path)).await.is(405);
            assert!(!answer.header("allow").is_empty());
            assert_eq!(answer.json()["error"]["code"], "unsupported_parameter");
        }
        for path in ["/v1/responses", "/backend-api/codex/responses"] {
            let upgrade =
                http.request(Method::GET, path).header("connection", "upgrade").header("upgrade", "websocket");
            let upgrade =
                upgrade.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            let answer = Answer::of(upgrade).await.is(426);
            assert!(answer.json()["error"]["message"].as_str().expect("a message").contains("WebSocket"));
        }
        let stored = json!({ "model": MODEL, "input": "Hello", "previous_response_id": "resp_1" });
        let refused = http.respond(&stored).await.is(400).json();
        assert_eq!(
            (&refused["error"]["reason"], &refused["error"]["param"]),
            (&"UNSUPPORTED".into(), &"previous_response_id".into())
        );
        let unknown = json!({ "model": "opneai-codex/gpt-5.5", "input": "Hello" });
        let refused = http.respond(&unknown).await.is(400).json();
        assert_eq!(
            (&refused["error"]["code"], &refused["error"]["reason"]),
            (&"model_not_found".into(), &"ROUTE_UNKNOWN".into())
        );
        assert!(refused["error"]["message"].as_str().expect("a message").contains("openai-codex/gpt-5.5"), "{refused}");
        assert_eq!(world.upstream().len(), 0);
    }

    /// The Codex backend's own path is served alike, and compressed bodies too.
    async fn paths_and_encodings_of_codex_are_served(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let http = switchboard.http();
        let answer = http.post("/backend-api/codex/responses", &streamed("Reply exactly: OK")).await.is(200);
        assert_eq!(answer.streamed_text(), "OK");
        let strange = http.request(Method::POST, "/v1/responses").header("content-encoding", "br").body("x");
        let refused = Answer::of(strange).await.is(400).json();
        assert_eq!(refused["error"]["reason"], "UNSUPPORTED", "{refused}");
        // A known client's own name is forwarded, anybody else's is not.
        let codex = http.request(Method::POST, "/v1/responses").json(&whole("Hello"));
        let codex = codex
            .header("user-agent", "codex_exec/0.169.0 (Linux)")
            .header("originator", "codex_exec")
            .header("session_id", "s-1");
        let _ = Answer::of(codex).await.is(200);
        let sent = world.upstream().pop().expect("a request");
        assert_eq!((sent.header("originator"), sent.header("session_id")), (Some("codex_exec"), Some("s-1")));
        assert!(sent.header("user-agent").is_some_and(|agent| agent.starts_with("codex_exec/")));
        let other =
            http.request(Method::POST, "/v1/responses").json(&whole("Hello")).header("user-agent", "OpenAI/JS 7.15.0");
        let other =
            other.header("x-stainless-os", "Linux").header("cookie", "a=b").header("chatgpt-account-id", "acct-evil");
        let _ = Answer::of(other).await.is(200);
        let sent = world.upstream().pop().expect("a request");
        assert_eq!(
            (sent.header("originator"), sent.header("chatgpt-account-id")),
            (Some("switchboard"), Some("acct-1"))
        );
        assert_eq!(sent.header("x-stainless-os"), None);
        // Cookies are the edge's, per credential; a caller's own go nowhere.
        assert!(!sent.header("cookie").unwrap_or_default().contains("a=b"), "{:?}", sent.header("cookie"));
    }

    /// A probe is a real request, and says what a call would meet.
    async fn a_probe_asks_the_upstream(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let status = switchboard.cli(&["models", "status", "--probe", "--check", "--json"]).await.ok().json();
        assert_eq!(status["routes"][0]["probe"]["result"], "ok", "{status}");
        assert_eq!(world.sim.state().requests_to("/backend-api/codex/models").len(), 1);
        world.behave("acct-1", "challenge");
        let probed = switchboard.cli(&["models", "status", "--probe", "--check", "--json"]).await.exits(1).json();
        assert_eq!(probed["routes"][0]["probe"]["result"], "EDGE_CHALLENGE", "{probed}");
        assert_eq!(probed["routes"][0]["bound"]["credential"], "main", "the credential is not at fault");
        let failed = switchboard.grpc().complete(question(MODEL, "Hello")).await.expect_err("challenged");
        assert_eq!(e2e::failure_from_status(&failed, "gateway").reason, domain::Reason::EdgeChallenge);
    }
}
