//! Orders of profiles, and agents that have profiles of their own.

use super::*;

fn three() -> ImportFile {
    profiles(json!({
        "openai-codex:a": login("acct-a", NOW + DAY),
        "openai-codex:b": login("acct-b", NOW + DAY),
        "openai-codex:c": login("acct-c", NOW + DAY),
    }))
}

fn state(agent: &str, state: Value) -> ImportFile {
    file(&format!("agents/{agent}/agent/auth-state.json"), &state)
}

fn agent(agent: &str, profiles: Value) -> ImportFile {
    file(&format!("agents/{agent}/agent/auth-profiles.json"), &json!({ "version": 1, "profiles": profiles }))
}

#[tokio::test]
async fn the_order_is_taken_from_where_openclaw_has_it() {
    let in_profiles = file(
        PROFILES,
        &json!({ "profiles": { "openai-codex:a": login("acct-a", NOW + DAY), "openai-codex:b": login("acct-b", NOW + DAY) },
                 "order": { "openai-codex": ["openai-codex:b"] } }),
    );
    let config = raw("openclaw.json", "{ auth: { order: { openai: ['openai-codex:c', 'openai-codex:a'] } } }");
    for (files, expected, says) in [
        (vec![three()], ["a", "b", "c"].as_slice(), None),
        (
            vec![
                three(),
                state("main", json!({ "order": { "openai-codex": ["openai-codex:c", "gone", "openai-codex:a"] } })),
            ],
            &["c", "a", "b"],
            Some("auth-state.json): openai-codex:c, openai-codex:a; OpenClaw left out openai-codex:b"),
        ),
        (
            vec![three(), state("main", json!({ "lastGood": { "openai-codex": "openai-codex:b" } }))],
            &["b", "a", "c"],
            Some("openai-codex:b is tried first"),
        ),
        (vec![in_profiles], &["b", "a"], Some("auth-profiles.json): openai-codex:b")),
        (vec![three(), config], &["c", "a", "b"], Some("(openclaw.json)")),
    ] {
        let bench = Bench::new().await;
        let response = bench.import(openclaw(files)).await;
        let expected: Vec<String> = expected.iter().map(|name| format!("openai-codex:{name}")).collect();
        assert_eq!(bench.labels("openai-codex").await, expected);
        let notes = response.notes.join("\n");
        assert_eq!(
            notes.contains("credentials are tried in") || notes.contains("tried first"),
            says.is_some(),
            "{notes}"
        );
        assert!(says.is_none_or(|says| notes.contains(says)), "{notes}");
    }
}

#[tokio::test]
async fn what_was_here_keeps_its_place_and_the_operators_order_holds() {
    let bench = Bench::new().await;
    bench
        .import(codex(&json!({ "tokens": { "access_token": jwt("own", NOW + DAY), "refresh_token": "rt-S3CRET" } })))
        .await;
    let files = || vec![three(), state("main", json!({ "order": { "openai-codex": ["openai-codex:c"] } }))];
    bench.import(openclaw(files())).await;
    assert_eq!(bench.labels("openai-codex").await, ["main", "openai-codex:c", "openai-codex:a", "openai-codex:b"]);
    let order = ["openai-codex:b".to_owned()];
    bench.store.set_order("openai-codex", &order).await.expect("ordered");
    bench.import(openclaw(files())).await;
    assert_eq!(bench.labels("openai-codex").await[0], "openai-codex:b");
}

#[tokio::test]
async fn copies_of_one_login_are_one_credential_with_the_latest_tokens() {
    let bench = Bench::new().await;
    let files = vec![
        profiles(json!({ "openai-codex:default": login("acct-1", NOW + DAY) })),
        agent("work", json!({ "openai-codex:default": login("acct-1", NOW + 2 * DAY) })),
        agent("play", json!({ "openai-codex:other-name": login("acct-1", NOW + DAY) })),
    ];
    let response = bench.import(openclaw(files)).await;
    assert_eq!(bench.labels("openai-codex").await, ["openai-codex:default"]);
    assert_eq!(bench.get("openai-codex:default").await.access_expires_at, Some(NOW + 2 * DAY));
    assert_eq!(line(&response, "work/openai-codex:default").action, "created");
    assert_eq!(line(&response, "openai-codex:default").action, "skipped");
    assert!(line(&response, "play/openai-codex:other-name").detail.contains("the same login as"), "{response:?}");
    assert_eq!(response.config_toml, "", "all agents share it");
}

#[tokio::test]
async fn agents_with_logins_of_their_own_keep_to_them() {
    let bench = Bench::new().await;
    let files = vec![
        profiles(json!({
            "openai-codex:default": login("acct-1", NOW + DAY), "openai-codex:spare": login("acct-2", NOW + DAY) })),
        agent("work", json!({ "openai-codex:default": login("acct-3", NOW + DAY) })),
        state("work", json!({ "order": { "openai-codex": ["openai-codex:spare", "openai-codex:default"] } })),
    ];
    let response = bench.import(openclaw(files)).await;
    assert_eq!(line(&response, "work/openai-codex:default").label, "work/openai-codex:default");
    let config = routes::parsed(&response.config_toml);
    let credentials = |agent: &str| config.agents[agent].credentials.clone().expect("a list");
    assert_eq!(credentials("main"), ["openai-codex:default", "openai-codex:spare"]);
    assert_eq!(credentials("work"), ["openai-codex:spare", "work/openai-codex:default"]);
    assert_eq!(
        bench.labels("openai-codex").await,
        ["openai-codex:default", "openai-codex:spare", "work/openai-codex:default"]
    );
}
