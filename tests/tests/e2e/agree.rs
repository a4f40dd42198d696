//! Status tells the truth: for random states of the store, what `models status` says is what a call does. The oracle is
//! the call itself.

use std::collections::BTreeSet;
use std::time::Duration;

use codex_sim::SeedLogin;
use domain::{CandidateReason, Failure};
use e2e::{Part, Switchboard, failure_from_status, fixture, question, trace_from_status};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use proto::auth::v1::{
    ImportCredentialsRequest, ImportFile, ListCredentialsRequest, OrderCredentialsRequest, RemoveCredentialRequest,
};
use proto::common::v1::ExecutionTrace;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use serde_json::Value;
use service_kit::MAX_MESSAGE_BYTES;

use crate::support::{World, api_key_json, candidates, status};

const CASES: usize = 30;
const PROVIDER: &str = "openai-codex";
/// What a call may be answered with, and what changes the credential's standing or does not.
const ANSWERS: [&str; 6] =
    ["usage_limit:600", "rate_limit:600", "usage_not_included", "unauthorized", "challenge", "ok"];

/// A login of the subscription, and what has become of it.
#[derive(Clone, Debug)]
enum Login {
    /// Its access token lives.
    Alive,
    /// It lives, but is due for a refresh, at which the identity provider behaves so.
    Due(&'static str),
    /// It has expired, and the identity provider behaves so.
    Expired(&'static str),
    /// It has expired, and there is no refresh token.
    Unrefreshable,
    /// It is another program's, alive or not.
    Borrowed { alive: bool },
    /// Another issuer gave it.
    Foreign,
    /// A call with it was answered so.
    Spent(&'static str),
}

/// A state of the store.
#[derive(Clone, Debug)]
struct State {
    /// Credentials `a`, `b` and `c`.
    logins: [Option<Login>; 3],
    /// In which order they are tried.
    order: Vec<&'static str>,
    /// A credential whose sidecar could not be opened.
    undecryptable: bool,
    /// Credential `key`, and whether the platform still takes it.
    key: Option<bool>,
}

fn login() -> impl Strategy<Value = Login> {
    let transient = prop::sample::select(vec!["server_error", "rate_limit:60", "challenge", "html_ok"]);
    let permanent = prop::sample::select(vec!["expired", "invalidated", "invalid_grant"]);
    prop_oneof![
        2 => Just(Login::Alive),
        1 => transient.clone().prop_map(Login::Due),
        1 => permanent.clone().prop_map(Login::Due),
        1 => Just(Login::Expired("ok")),
        2 => transient.prop_map(Login::Expired),
        2 => permanent.prop_map(Login::Expired),
        1 => Just(Login::Unrefreshable),
        1 => any::<bool>().prop_map(|alive| Login::Borrowed { alive }),
        1 => Just(Login::Foreign),
        4 => prop::sample::select(ANSWERS.to_vec()).prop_map(Login::Spent),
    ]
}

fn state() -> impl Strategy<Value = State> {
    let logins = prop::array::uniform3(prop::option::weighted(0.65, login()));
    let order = Just(vec!["a", "b", "c"]).prop_shuffle();
    (logins, order, prop::bool::weighted(0.3), prop::option::weighted(0.6, any::<bool>()))
        .prop_map(|(logins, order, undecryptable, key)| State { logins, order, undecryptable, key })
}

/// The agents, each with a view of its own on the store: one for every rule about lists.
fn set_agents(world: &World) {
    for (agent, model, credentials) in [
        ("any", "openai-codex/gpt-5.5", "[]"),
        ("a", "codex/gpt-5.5", "[\"a\"]"),
        ("b", "codex/gpt-5.5", "[\"b\"]"),
        ("c", "codex/gpt-5.5", "[\"c\"]"),
        ("gone", "codex/gpt-5.5", "[\"nobody\", \"c\"]"),
        ("crossed", "codex/gpt-5.5", "[\"key\"]"),
        ("payer", "openai/gpt-5.5", "[]"),
        ("mixed", "openai/gpt-5.5", "[\"a\", \"key\"]"),
    ] {
        world.home.set(&format!("agents.{agent}.model"), format!("\"{model}\""));
        if credentials != "[]" {
            world.home.set(&format!("agents.{agent}.credentials"), credentials);
        }
    }
}

/// The store of a running deployment, changed as operators change it.
struct Store<'a> {
    world: &'a World,
    client: CredentialServiceClient<service_kit::PeerChannel>,
    case: usize,
}

impl Store<'_> {
    async fn clear(&mut self) {
        let all = self.client.list_credentials(ListCredentialsRequest::default()).await.expect("listed").into_inner();
        for credential in all.credentials {
            let remove = RemoveCredentialRequest { credential: credential.id };
            self.client.remove_credential(remove).await.expect("removed");
        }
    }

    async fn import(&mut self, format: &str, label: Option<&str>, files: Vec<(&str, Vec<u8>)>, borrow: bool) {
        let file = |(name, content): (&str, Vec<u8>)| ImportFile { name: name.to_owned(), content: content.into() };
        let request = ImportCredentialsRequest {
            format: format.to_owned(),
            files: files.into_iter().map(file).collect(),
            secret_seed: Some(ImportFile { name: "seed".into(), content: b"not-the-seed".as_slice().into() }),
            borrow,
            label: label.map(str::to_owned),
            ..ImportCredentialsRequest::default()
        };
        self.client.import_credentials(request).await.expect("imported");
    }

    async fn add(&mut self, label: &str, login: &Login) {
        let hour = Duration::from_secs(3600);
        let (ttl, token_scenario) = match login {
            Login::Due(scenario) => (Duration::from_secs(100), *scenario),
            Login::Expired(scenario) => (Duration::ZERO, *scenario),
            Login::Unrefreshable | Login::Borrowed { alive: false } => (Duration::ZERO, "ok"),
            Login::Alive | Login::Borrowed { alive: true } | Login::Foreign | Login::Spent(_) => (hour, "ok"),
        };
        let account = format!("acct-{}-{label}", self.case);
        let seeded = self.world.sim.state().seed_login(SeedLogin {
            access_ttl: Some(ttl),
            token_scenario: Some(token_scenario.parse().expect("a scenario")),
            ..SeedLogin::account(account.as_str())
        });
        let mut file = seeded.codex_auth_json();
        let tokens = file["tokens"].as_object_mut().expect("tokens");
        if matches!(login, Login::Unrefreshable) {
            tokens.remove("refresh_token");
        }
        if matches!(login, Login::Foreign) {
            let provenance = serde_json::json!({ "issuer": "https://auth.openai.com", "client_id": "app_other" });
            tokens.insert("oauth_provenance".into(), provenance);
        }
        let borrow = matches!(login, Login::Borrowed { .. });
        self.import("codex", Some(label), vec![("auth.json", file.to_string().into_bytes())], borrow).await;
        if let Login::Spent(scenario) = login {
            self.world.behave(&account, scenario);
        }
    }

    /// Brings the store into a state, by imports and by calls.
    async fn become_state(&mut self, switchboard: &Switchboard, state: &State) {
        self.clear().await;
        let labels = ["a", "b", "c"];
        for (label, login) in labels.iter().zip(&state.logins) {
            if let Some(login) = login {
                self.add(label, login).await;
            }
        }
        if state.undecryptable {
            let read = |name: &str| std::fs::read(fixture("openclaw-state").join(name)).expect("read");
            let name = "agents/main/agent/auth-profiles.json";
            let mut profiles: Value = serde_json::from_slice(&read(name)).expect("JSON");
            profiles["profiles"].as_object_mut().expect("profiles").remove("openai:default");
            let sidecar = "credentials/auth-profiles/f4f8252ceb052979232445f2c58871b7.json";
            let files = vec![(name, profiles.to_string().into_bytes()), (sidecar, read(sidecar))];
            self.import("openclaw", None, files, false).await;
        }
        if let Some(good) = state.key {
            let key = format!("sk-agree-{}", self.case);
            if good {
                self.world.sim.state().add_api_key(&key);
            }
            let file = api_key_json(&key).to_string().into_bytes();
            self.import("codex", Some("key"), vec![("auth.json", file)], false).await;
        }
        let there = |label: &&str| labels.iter().zip(&state.logins).any(|(one, login)| one == label && login.is_some());
        let order: Vec<String> =
            state.order.iter().filter(|label| there(label)).map(|label| (*label).to_owned()).collect();
        if !order.is_empty() {
            let order = OrderCredentialsRequest { provider: PROVIDER.into(), credentials: order, by_session: false };
            self.client.order_credentials(order).await.expect("ordered");
        }
        // Limits and rejections come from calls, as in life.
        for (label, login) in labels.iter().zip(&state.logins) {
            if matches!(login, Some(Login::Spent(_))) {
                let _ = call(switchboard, label).await;
                self.world.sim.state().set_scenario(&format!("acct-{}-{label}", self.case), None);
            }
        }
        if state.key == Some(false) {
            let _ = call(switchboard, "payer").await;
        }
    }
}

/// A call as an agent with its own model, by an operator.
async fn call(switchboard: &Switchboard, agent: &str) -> Result<ExecutionTrace, (Failure, domain::ExecutionTrace)> {
    let mut request = question("", "Reply exactly: OK");
    agent.clone_into(&mut request.agent);
    let client = GatewayServiceClient::new(switchboard.peer(Part::Gateway));
    match client.max_decoding_message_size(MAX_MESSAGE_BYTES).complete(request).await {
        Ok(answer) => {
            Ok(answer.into_inner().result.and_then(|r| r.meta).and_then(|m| m.execution_trace).expect("a trace"))
        }
        Err(status) => {
            let trace = trace_from_status(&status).unwrap_or_else(|| panic!("no trace: {status}"));
            Err((failure_from_status(&status, "gateway"), trace))
        }
    }
}

fn reasons_of(failure: &Failure) -> Vec<(String, String)> {
    let reason = |one: &domain::Candidate| one.reason.map_or("eligible", CandidateReason::as_str).to_owned();
    failure.candidates.iter().map(|one| (one.credential.clone(), reason(one))).collect()
}

/// Holds what status said of one agent's route against what the call did.
fn compare(route: &Value, outcome: &Result<ExecutionTrace, (Failure, domain::ExecutionTrace)>, context: &str) {
    let bound = route["bound"]["credential"].as_str();
    match (bound, outcome) {
        (Some(label), Ok(trace)) => {
            assert_eq!(trace.attempts[0].credential, label, "{context}: {route}");
            assert_eq!((trace.attempts.len(), trace.attempts[0].result.as_str()), (1, "success"), "{context}: {route}");
        }
        (None, Err((failure, trace))) => {
            assert_eq!(route["error"]["reason"], failure.reason.as_str(), "{context}: {route}: {failure}");
            // What the lists leave out is for the operator's status alone.
            let mut known = candidates(&route["candidates"]);
            known.retain(|(_, reason)| reason != "not_allowed");
            assert_eq!(known, reasons_of(failure), "{context}: {route}: {failure}");
            assert_eq!(trace.attempts.len(), 1, "{context}: {trace:?}");
            assert_eq!(trace.attempts[0].result, domain::AttemptResult::Skipped, "{context}: {trace:?}");
            let reason = route["reason"].as_str().expect("a reason");
            let of_candidates = candidates(&route["candidates"]);
            assert!(of_candidates.iter().any(|(_, one)| one == reason), "{context}: {route}");
        }
        (bound, outcome) => panic!("{context}: status says bound to {bound:?}, the call: {outcome:?}; {route}"),
    }
}

e2e::in_each_topology! {
    /// For every agent: bound means that the call is bound to that very credential, not bound means that it fails with
    /// the same reason and the same candidates before anything is sent.
    async fn status_and_call_agree_in_every_state(topology) {
        let world = World::new().await;
        set_agents(&world);
        let switchboard = world.start(topology).await;
        let client = CredentialServiceClient::new(switchboard.peer(Part::Auth));
        let mut store = Store { world: &world, client, case: 0 };
        let mut runner = TestRunner::deterministic();
        let mut seen = BTreeSet::new();
        for case in 0..CASES {
            let mut state = state().new_tree(&mut runner).expect("a state").current();
            if let Some(answer) = ANSWERS.get(case) {
                // Chance alone would leave some of these out.
                state.logins[case % 3] = Some(Login::Spent(answer));
            }
            store.case = case;
            store.become_state(&switchboard, &state).await;
            world.sim.state().clear_requests();
            let before = status(&switchboard).await;
            for route in before["routes"].as_array().expect("routes") {
                let agent = route["agent"].as_str().expect("an agent");
                let context = format!("case {case}, agent {agent}, {state:?}");
                let sent = world.upstream().len();
                let outcome = call(&switchboard, agent).await;
                compare(route, &outcome, &context);
                assert_eq!(world.upstream().len() - sent, usize::from(outcome.is_ok()), "{context}");
                seen.extend(candidates(&route["candidates"]).into_iter().map(|(_, reason)| reason));
                seen.extend(route["error"]["reason"].as_str().map(str::to_owned));
            }
            // The same through the command line, for one agent of each state.
            let route = &before["routes"][case % 8];
            let agent = route["agent"].as_str().expect("an agent");
            let said = switchboard.cli(&["call", "--agent", agent, "--message", "Hello", "--json"]).await;
            assert_eq!(said.code == Some(0), route["bound"].is_object(), "case {case}: {route}: {said}");
            assert_eq!(said.json()["error"]["reason"], route["error"]["reason"], "case {case}: {route}: {said}");
        }
        // The states were not of one kind only.
        let unreachable = [CandidateReason::Unconfirmed];
        for reason in CandidateReason::ALL.iter().filter(|reason| !unreachable.contains(reason)) {
            assert!(seen.contains(reason.as_str()), "no state had {reason}: {seen:?}");
        }
        for reason in [
            "CREDENTIAL_NOT_BOUND",
            "CREDENTIAL_NEEDS_LOGIN",
            "CREDENTIAL_REJECTED",
            "IDENTITY_UNAVAILABLE",
            "USAGE_LIMIT",
            "RATE_LIMITED",
        ] {
            assert!(seen.contains(reason), "no call failed with {reason}: {seen:?}");
        }
    }
}
