//! Agent keys: who has none is refused by name, and who has one gets what it allows.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use e2e::{failure_from_status, question};
use serde_json::Value;

use crate::support::{MODEL, World, whole};

/// Makes a key; gives it.
pub(crate) async fn create(switchboard: &e2e::Switchboard, args: &[&str]) -> String {
    let all: Vec<&str> = ["keys", "create"].iter().chain(args).copied().collect();
    let made = switchboard.cli(&all).await.ok();
    made.stdout.trim().to_owned()
}

/// Sends a request as simple clients do, the whole body before a byte of the answer is read; gives the answer.
pub(crate) fn sent_before_reading(address: &str, key: &str, text: &str) -> String {
    let body = whole(text).to_string();
    let mut stream = TcpStream::connect(address).expect("connected");
    let head = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\
         content-type: application/json\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(sent.is_ok() && read.is_ok(), "the connection broke: {sent:?}, {read:?}");
    String::from_utf8_lossy(&answer).into_owned()
}

e2e::in_each_topology! {
    /// No key, a wrong one, a foreign one, and one that was revoked: all are refused the same way, on both faces.
    async fn callers_without_a_live_key_are_refused_by_name(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let revoked = create(&switchboard, &["second"]).await;
        assert!(revoked.starts_with("sbk_"), "{revoked}");
        let _ = switchboard.http_as(Some(&revoked)).respond(&whole("Hello")).await.is(200);
        let _ = switchboard.cli(&["keys", "revoke", "second"]).await.ok();
        // A verified key is trusted for some seconds, so that a call need not ask each time.
        e2e::eventually_async("the revoked key is refused", async || {
            switchboard.http_as(Some(&revoked)).get("/v1/models").await.status == 401
        })
        .await;
        // While it was trusted, the list of models was read.
        let before = world.upstream().len();

        let wrong = format!("sbk_{}", "A".repeat(revoked.len() - 4));
        for key in [None, Some(wrong.as_str()), Some("sk-somebody-elses"), Some(revoked.as_str())] {
            let refused = switchboard.http_as(key).respond(&whole("Hello")).await.is(401);
            let error = &refused.json()["error"];
            assert_eq!((&error["reason"], &error["code"]), (&"AGENT_KEY_INVALID".into(), &"invalid_api_key".into()));
            assert_eq!(refused.header("x-should-retry"), "false");
            let refused =
                switchboard.grpc_as(key).complete(question("codex/gpt-5.5", "Hello")).await.expect_err("refused");
            assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
            assert_eq!(failure_from_status(&refused, "gateway").reason, domain::Reason::AgentKeyInvalid);
            for path in ["/v1/models", "/v1/switchboard/calls/x"] {
                let _ = switchboard.http_as(key).get(path).await.is(401);
            }
            if let Some(key) = key {
                assert!(!refused.message().contains(key), "the key itself is not repeated");
            }
        }
        // A long conversation is refused as clearly as a short one, and not with a connection that breaks: clients try
        // again after that, and not after a 401.
        let answer = sent_before_reading(switchboard.address(), &wrong, &"word ".repeat(800_000));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert_eq!(world.upstream().len(), before, "nothing was sent for any of them");
    }

    /// What a key allows is the most it can do: models, credentials, and its own agent's calls.
    async fn a_key_restricts_models_credentials_and_what_is_seen(topology) {
        let (world, _) = World::with_login().await;
        world.login("acct-2", "spare").await;
        world.api_key("paid").await;
        let switchboard = world.start(topology).await;
        let paid = create(&switchboard, &["paid-only", "--agent", "payer", "--model", "openai/*"]).await;
        let spare = create(&switchboard, &["spare-only", "--agent", "sparer", "--credential", "spare"]).await;

        let refused = switchboard.http_as(Some(&paid)).respond(&whole("Hello")).await.is(400).json();
        assert_eq!(
            (&refused["error"]["code"], &refused["error"]["reason"]),
            (&"model_not_allowed".into(), &"AGENT_NOT_ALLOWED".into())
        );
        let over_grpc = switchboard.grpc_as(Some(&paid)).complete(question(MODEL, "Hello")).await.expect_err("refused");
        assert_eq!(over_grpc.code(), tonic::Code::PermissionDenied);
        let mut body = whole("Reply exactly: OK");
        body["model"] = "openai/gpt-5.5".into();
        let _ = switchboard.http_as(Some(&paid)).respond(&body).await.is(200);
        let listed = switchboard.http_as(Some(&paid)).get("/v1/models").await.is(200).json();
        let ids: Vec<_> =
            listed["data"].as_array().expect("data").iter().map(|m| m["id"].as_str().unwrap_or("-")).collect();
        assert!(!ids.is_empty() && ids.iter().all(|id| id.starts_with("openai/")), "{ids:?}");

        let answer = switchboard.http_as(Some(&spare)).respond(&whole("Hello")).await.is(200);
        let id = answer.header("x-switchboard-call-id").to_owned();
        let of_spare = switchboard.http_as(Some(&spare));
        let record = of_spare.get(&format!("/v1/switchboard/calls/{id}")).await.is(200).json();
        assert_eq!(record["executionTrace"]["attempts"][0]["credential"], "spare", "{record}");
        assert_eq!(record["agent"], "sparer");
        let hidden = switchboard.http_as(Some(&paid)).get(&format!("/v1/switchboard/calls/{id}")).await.is(404).json();
        assert_eq!(hidden["error"]["reason"], "NOT_FOUND", "an agent sees its own calls only");
        let mut named = question("codex/gpt-5.5", "Hello");
        named.agent = "main".into();
        let refused = switchboard.grpc_as(Some(&spare)).complete(named).await.expect_err("refused");
        assert_eq!(failure_from_status(&refused, "gateway").reason, domain::Reason::AgentNotAllowed);

        // With the one credential gone that its key allows, the others do not stand in.
        let _ = switchboard.cli(&["credentials", "remove", "spare"]).await.ok();
        let refused = switchboard.http_as(Some(&spare)).respond(&whole("Hello")).await.is(400).json();
        assert_eq!(refused["error"]["reason"], "CREDENTIAL_NOT_BOUND", "{refused}");
        let reasons: Vec<_> = refused["error"]["candidates"]
            .as_array()
            .expect("candidates")
            .iter()
            .map(|c| c["reason"].clone())
            .collect();
        assert_eq!(reasons, [Value::from("missing")], "what the key does not allow is not named: {refused}");
        assert!(!refused.to_string().contains("main"), "{refused}");

        // Where the list alone is in the way, that is the reason, and its holder is told of nobody else's credentials.
        let keyed = create(&switchboard, &["api-key-only", "--agent", "sparer", "--credential", "paid"]).await;
        let refused = switchboard.http_as(Some(&keyed)).respond(&whole("Hello")).await.is(400).json();
        assert_eq!(refused["error"]["reason"], "AGENT_NOT_ALLOWED", "{refused}");
        let told = refused.to_string();
        assert!(!told.contains("\"main\"") && !told.contains("main:") && !told.contains("login codex"), "{told}");
    }

    /// A key in steady use is refused soon after it is revoked, and so is the old secret of one that is rotated.
    async fn a_revoked_key_in_use_ends_within_seconds(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let (first, second) = (create(&switchboard, &["first"]).await, create(&switchboard, &["second"]).await);
        let works = async |key: &str| switchboard.http_as(Some(key)).get("/v1/models").await.status == 200;
        // Beyond the age at which the gateway asks again beside the calls.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            assert!(works(&first).await && works(&second).await);
        }
        let revoked = Instant::now();
        let _ = switchboard.cli(&["keys", "revoke", "first"]).await.ok();
        let third = switchboard.cli(&["keys", "rotate", "second"]).await.ok();
        assert!(third.stderr.contains("the old secret has ended"), "{third}");
        assert!(works(third.stdout.trim()).await, "the new secret works at once");
        e2e::eventually_async("both are refused", async || !works(&first).await && !works(&second).await).await;
        // Four seconds are the gateway's own bound; the rest is a busy machine's.
        assert!(revoked.elapsed() < Duration::from_secs(20), "{:?}", revoked.elapsed());
        let refused = switchboard.http_as(Some(&second)).get("/v1/models").await.is(401).json();
        assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("was rotated")), "{refused}");
    }

    /// A grace lets both secrets work, for as long as it says.
    async fn a_rotated_keys_old_secret_has_its_grace(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let old = create(&switchboard, &["ci", "--agent", "ci"]).await;
        let made = switchboard.cli(&["keys", "rotate", "ci", "--grace", "3s", "--json"]).await.ok().json();
        let new = made["key"].as_str().expect("a key").to_owned();
        assert!(made["info"]["previousUntil"].as_f64() > made["info"]["rotatedAt"].as_f64(), "{made}");
        let answer = switchboard.http_as(Some(&new)).respond(&whole("Hello")).await.is(200);
        let path = format!("/v1/switchboard/calls/{}", answer.header("x-switchboard-call-id"));
        let seen = switchboard.http_as(Some(&old)).get(&path).await;
        assert!([200, 401].contains(&seen.status), "the old secret is the same agent's, or its grace is over");
        e2e::eventually_async("the grace is over", async || {
            switchboard.http_as(Some(&old)).get("/v1/models").await.status == 401
        })
        .await;
        let _ = switchboard.http_as(Some(&new)).get(&path).await.is(200);
        let shown = switchboard.cli(&["keys", "show", "ci"]).await.ok().stdout;
        assert!(shown.contains("rotated") && !shown.contains(&new) && !shown.contains(&old), "{shown}");
        let _ = switchboard.cli(&["keys", "rotate", "nobody"]).await.exits(1);
    }

    /// A label that no credential has is most likely mistyped: the key is made, and the command says so.
    async fn a_mistyped_label_is_warned_of(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let args = ["keys", "create", "odd", "--credential", "mian", "--credential", "main", "--ttl", "30d"];
        let made = switchboard.cli(&args).await.ok();
        assert!(made.stdout.starts_with("sbk_") && made.stdout.lines().count() == 1, "{made}");
        assert!(made.stderr.contains("warning: no credential has the label mian (there is main)"), "{made}");
        let known = switchboard.cli(&["keys", "create", "even", "--credential", "main", "--json"]).await.ok();
        assert!(known.json()["warnings"].as_array().is_some_and(Vec::is_empty), "{known}");
        for wrong in [["--ttl", "0"], ["--ttl", "soon"], ["--concurrent", "0"], ["--tokens-per-day", "-1"]] {
            let _ = switchboard.cli(&["keys", "create", "wrong", wrong[0], wrong[1]]).await.exits(2);
        }
    }

    /// A key that lives for a second is a key for a second.
    async fn a_key_expires(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let short = create(&switchboard, &["short", "--ttl", "1"]).await;
        e2e::eventually_async("the key has expired", async || {
            switchboard.http_as(Some(&short)).get("/v1/models").await.status == 401
        })
        .await;
        let listed = switchboard.cli(&["keys", "list", "--json"]).await.ok();
        assert!(!listed.stdout.contains(&short), "a key is shown once");
        assert_eq!(listed.json()["keys"].as_array().map(Vec::len), Some(2));
    }
}
