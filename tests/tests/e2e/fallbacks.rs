//! Never fall through: a realm is left only where a fallback list names the other.

use crate::support::{CODEX, MODEL, PLATFORM, World, call, only_route, status, streamed, trace_of};

e2e::in_each_topology! {
    /// `fallbacks = []`: the limit is the answer, although an API key lies beside it.
    async fn without_a_fallback_nothing_else_is_tried(topology) {
        let (world, _) = World::with_login().await;
        world.api_key("paid").await;
        world.home.set("defaults.fallbacks", "[]");
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "usage_limit:3600");
        let failed = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        let error = &failed["error"];
        assert_eq!((&error["reason"], &error["planType"]), (&"USAGE_LIMIT".into(), &"plus".into()), "{failed}");
        let trace = trace_of(&failed);
        assert_eq!((&trace["fallbackUsed"], &trace["winnerProvider"]), (&false.into(), &serde_json::Value::Null));
        assert_eq!(trace["attempts"].as_array().map(Vec::len), Some(1), "{trace}");
        // The second call knows of the limit and does not even ask.
        let rested = switchboard.http().respond(&streamed("Hello")).await.is(429).json();
        assert_eq!(
            (&rested["error"]["type"], &rested["error"]["reason"]),
            (&"usage_limit_reached".into(), &"USAGE_LIMIT".into())
        );
        assert!(rested["error"]["resets_in_seconds"].as_i64().is_some_and(|left| left > 3000), "{rested}");
        assert_eq!(only_route(&status(&switchboard).await)["reason"], "resting");
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 1);
        assert_eq!(world.sim.state().requests_to(PLATFORM).len(), 0, "the API key was not touched");
    }

    /// A fallback that is named is used, and the trace says so.
    async fn a_named_fallback_is_used_and_told(topology) {
        let (world, _) = World::with_login().await;
        let key = world.api_key("paid").await;
        world.home.set("defaults.fallbacks", "[\"openai/gpt-5.5\"]");
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "usage_limit:3600");
        let answer = call(&switchboard, "codex/gpt-5.5").await.ok().json();
        assert_eq!(answer["result"]["payloads"][0]["text"], "OK");
        let trace = trace_of(&answer);
        assert_eq!((&trace["fallbackUsed"], &trace["winnerProvider"]), (&true.into(), &"openai".into()), "{trace}");
        assert_eq!((&trace["winnerModel"], &trace["requestedModel"]), (&"gpt-5.5".into(), &"codex/gpt-5.5".into()));
        let attempts = trace["attempts"].as_array().expect("attempts");
        let told: Vec<_> = attempts
            .iter()
            .map(|a| ["provider", "credential", "result", "reason"].map(|field| a[field].as_str().unwrap_or("-")))
            .collect();
        assert_eq!(told, [["openai-codex", "main", "failed", "USAGE_LIMIT"], ["openai", "paid", "success", "-"]]);
        let label = world.sim.state().add_api_key(&key);
        let paid = world.sim.state().requests_to(PLATFORM);
        assert_eq!(paid.len(), 1);
        assert_eq!(paid[0].credential.as_deref(), Some(label.as_str()));
        assert_eq!(paid[0].header("chatgpt-account-id"), None, "account headers are the subscription's");

        // From now on the subscription rests: it is skipped without a request, and the trace still says so.
        let answer = call(&switchboard, MODEL).await.ok().json();
        let trace = trace_of(&answer);
        let told: Vec<_> = trace["attempts"]
            .as_array()
            .expect("attempts")
            .iter()
            .map(|a| a["result"].as_str().unwrap_or("-"))
            .collect();
        assert_eq!(told, ["skipped", "success"], "{trace}");
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 1);
        let status = status(&switchboard).await;
        let routes = status["routes"].as_array().expect("routes");
        let told: Vec<_> = routes.iter().map(|r| (r["model"].as_str(), r["reason"].as_str())).collect();
        assert_eq!(told, [(Some(MODEL), Some("resting")), (Some("openai/gpt-5.5"), None)], "{status}");
    }

    /// An early `response.failed` fails over too, and the caller sees nothing of the attempt that lost.
    async fn an_early_failure_in_the_stream_falls_back_unseen(topology) {
        let (world, _) = World::with_login().await;
        world.api_key("paid").await;
        world.home.set("defaults.fallbacks", "[\"openai/gpt-5.5\"]");
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "failed:rate_limit_exceeded:Try again in 20s");
        let answer = switchboard.http().respond(&streamed("Reply exactly: OK")).await.is(200);
        let kinds = answer.event_kinds();
        assert_eq!(answer.streamed_text(), "OK");
        assert_eq!(kinds.iter().filter(|kind| *kind == "response.created").count(), 1, "{kinds:?}");
        assert!(!kinds.iter().any(|kind| kind == "response.failed"), "{kinds:?}");
    }

    /// Two subscriptions: the second takes over when the first has reached its limit; that is no fallback.
    async fn the_next_credential_of_the_same_route_takes_over(topology) {
        let (world, _) = World::with_login().await;
        world.login("acct-2", "spare").await;
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "usage_limit:3600");
        let answer = call(&switchboard, "codex/gpt-5.5").await.ok().json();
        let trace = trace_of(&answer);
        let told: Vec<_> = trace["attempts"]
            .as_array()
            .expect("attempts")
            .iter()
            .map(|a| a["credential"].as_str().unwrap_or("-"))
            .collect();
        assert_eq!(told, ["main", "spare"], "{trace}");
        assert_eq!(trace["fallbackUsed"], false);
        let accounts: Vec<_> =
            world.upstream().iter().map(|request| request.credential.clone().unwrap_or_default()).collect();
        assert_eq!(accounts, ["acct-1", "acct-2"]);
    }
}
