//! A credential that is tied to an egress: every request that is made with it, or in order to get it, leaves by that
//! egress's proxy, and none around it.

use codex_sim::{SimConfig, TlsMode};
use e2e::{Proxy, ProxyKind, Signal, Switchboard, Topology, eventually_async};
use serde_json::Value;

use crate::second::{SECOND, SECOND_LABEL, configure_second, start_second};
use crate::support::{CODEX, World, call, only_route, status, trace_of};

/// An address that nobody has (RFC 5737): what does not go through a proxy reaches nobody.
const FAR: &str = "192.0.2.77";
const ALL_KINDS: [ProxyKind; 2] = [ProxyKind::Http, ProxyKind::Socks5];

/// A simulator at [`FAR`], where only proxies find it.
struct Far {
    world: World,
    /// The proxy of the egress that the credential is tied to.
    named: Proxy,
    /// The proxy of everything else.
    usual: Proxy,
}

impl Far {
    async fn new(kind: ProxyKind) -> Self {
        let sim = SimConfig {
            tls: Some(TlsMode::Only),
            tls_names: vec![FAR.to_owned()],
            device_interval_seconds: 1,
            ..SimConfig::default()
        };
        let world = World::with(sim).await;
        let here = world.sim.base_url();
        let address = here.trim_start_matches("https://").parse().expect("an address");
        let far = format!("https://{FAR}:{}", here.rsplit(':').next().expect("a port"));
        let (named, usual) = (Proxy::start(kind, address).await, Proxy::start(kind, address).await);
        let home = &world.home;
        home.keeps("a proxy's password", named.password());
        home.set("auth.identity_url", quoted(&far));
        home.set("targets.chatgpt-codex.base_url", quoted(&format!("{far}/backend-api/codex")));
        home.set("targets.openai-api.base_url", quoted(&format!("{far}/v1")));
        home.set("auth.proxy", quoted(&usual.url())).set("transport.proxy", quoted(&usual.url()));
        home.set("egresses.second.proxy", quoted(&named.url()));
        home.set("auth.usage_probe_after", "\"1s\"");
        configure_second(home);
        Self { world, named, usual }
    }

    /// Logs in by device code, tied to the second egress.
    async fn log_in(&self, switchboard: &Switchboard) {
        let owner = async {
            let mut code = String::new();
            eventually_async("a code waits for its owner", async || {
                code = self.world.sim.state().pending_devices().pop().unwrap_or_default();
                !code.is_empty()
            })
            .await;
            self.world.sim.state().approve_device(&code).expect("approved");
        };
        let (done, ()) = tokio::join!(switchboard.cli(&["login", "codex", "--egress", SECOND]), owner);
        let _ = done.ok();
    }

    fn paths(&self) -> Vec<String> {
        self.world.sim.state().requests().into_iter().map(|request| request.path).collect()
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

async fn every_leg(topology: Topology, kind: ProxyKind) {
    let far = Far::new(kind).await;
    let switchboard = far.world.start(topology).await;
    let _second = start_second(&far.world.home).await;
    far.log_in(&switchboard).await;

    let answer = call(&switchboard, "codex/gpt-5.5").await.ok().json();
    assert_eq!(trace_of(&answer)["attempts"][0]["egress"], SECOND, "{answer}");
    let _ = switchboard.cli(&["credentials", "refresh", "main"]).await.ok();
    let _ = switchboard.cli(&["models", "list"]).await.ok();
    let probed = switchboard.cli(&["models", "status", "--probe", "--json"]).await.ok().json();
    assert_eq!(probed["routes"][0]["probe"]["result"], "ok", "{probed}");
    // Answers tell of the quota; a limit is asked about.
    far.world
        .behave(&far.world.sim.state().requests_to(CODEX)[0].credential.clone().expect("an account"), "usage_limit");
    let _ = call(&switchboard, "codex/gpt-5.5").await.exits(1);
    eventually_async("the quota is asked for", async || far.paths().iter().any(|path| path.ends_with("/wham/usage")))
        .await;
    let _ = switchboard.cli(&["logout", "main"]).await.ok();

    let paths = far.paths();
    for leg in [
        "/api/accounts/deviceauth/usercode",
        "/api/accounts/deviceauth/token",
        "/oauth/token",
        "/backend-api/codex/responses",
        "/backend-api/codex/models",
        "/backend-api/wham/usage",
        "/oauth/revoke",
    ] {
        assert!(paths.iter().any(|path| path == leg), "{kind:?}: no request to {leg}: {paths:?}");
    }
    let refreshes = far.world.sim.state().token_requests().len();
    assert_eq!(refreshes, 2, "the exchange and a refresh");
    assert_eq!(far.usual.passed(), Vec::<String>::new(), "{kind:?}: nothing goes by the usual proxy");
    let through = far.named.passed();
    assert!(through.iter().all(|host| host.starts_with(FAR)), "{through:?}");
    assert_eq!(through.len() as u64, far.world.sim.state().total_connections(), "{kind:?}: none goes around it");
}

e2e::in_each_topology! {
    /// Login, polls, refresh, calls, models, probes, usage and logout.
    async fn every_leg_of_a_tied_credential_goes_through_its_proxy(topology) {
        for kind in ALL_KINDS {
            every_leg(topology, kind).await;
        }
    }

    /// A proxy that is away is named, without its password, by a login, a refresh and a call; nothing goes around it.
    async fn an_unreachable_proxy_is_named_and_nothing_goes_around_it(topology) {
        let far = Far::new(ProxyKind::Http).await;
        let mut switchboard = far.world.start(topology).await;
        let mut second = start_second(&far.world.home).await;
        far.log_in(&switchboard).await;
        let _ = switchboard.stop().await;
        second.end(Signal::TERM).await;
        far.world.home.set("egresses.second.proxy", "\"http://switch:proxy-s3cret-word@127.0.0.1:9\"");
        let before = far.world.sim.state().total_connections();
        switchboard.restart().await;
        let _second = start_second(&far.world.home).await;

        let failed = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        assert_eq!(failed["error"]["reason"], "EGRESS_UNREACHABLE", "{failed}");
        let refreshed = switchboard.cli(&["credentials", "refresh", "main", "--json"]).await.exits(1).json();
        let login = switchboard.cli(&["login", "codex", "--egress", SECOND, "--json"]).await.exits(1);
        let login: Value = serde_json::from_str(login.stdout.lines().last().expect("a line")).expect("JSON");
        for told in [&refreshed, &login] {
            assert_eq!(told["error"]["reason"], "IDENTITY_UNAVAILABLE", "{told}");
        }
        for told in [&failed, &refreshed, &login] {
            let message = told["error"]["message"].as_str().expect("a message");
            assert!(message.contains("http://***@127.0.0.1:9"), "{message}");
        }
        assert_eq!(far.world.sim.state().total_connections(), before);
        assert_eq!(far.usual.passed(), Vec::<String>::new());
    }

    /// The rule of a credential: set, shown, kept by a backup, combined with its route's, and taken away.
    async fn a_credentials_rule_is_kept_shown_and_combined(topology) {
        let (world, _) = World::with_login().await;
        configure_second(&world.home);
        let switchboard = world.start(topology).await;
        let _second = start_second(&world.home).await;
        let egress = |answer: &Value| trace_of(answer)["attempts"][0]["egress"].clone();
        assert_eq!(egress(&call(&switchboard, "codex/gpt-5.5").await.ok().json()), "local");

        let set = switchboard.cli(&["credentials", "egress", "main", "--require", SECOND_LABEL, "--json"]).await.ok().json();
        assert_eq!(set["egress"], serde_json::json!({ "require": [SECOND_LABEL], "prefer": [] }), "{set}");
        assert!(set["notes"][0].as_str().is_some_and(|note| note.contains("egresses.second")), "{set}");
        assert_eq!(egress(&call(&switchboard, "codex/gpt-5.5").await.ok().json()), SECOND);
        let shown = switchboard.cli(&["credentials", "show", "main"]).await.ok();
        assert!(shown.stdout.contains(&format!("requires egress {SECOND_LABEL}")), "{shown}");
        let listed = switchboard.cli(&["credentials", "list"]).await.ok();
        assert!(listed.stdout.contains(&format!("main: requires egress {SECOND_LABEL}")), "{listed}");
        let listed = switchboard.cli(&["credentials", "list", "--json"]).await.ok().json();
        assert_eq!(listed["credentials"][0]["egress"]["require"][0], SECOND_LABEL, "{listed}");
        let acts = switchboard.cli(&["audit", "list", "--json"]).await.ok();
        assert!(acts.stdout.contains("credential.egress") && acts.stdout.contains(&format!("requires {SECOND_LABEL}")), "{acts}");

        let unknown = switchboard.cli(&["credentials", "egress", "main", "--prefer", "nowhere", "--json"]).await;
        let unknown = unknown.exits(1).json();
        assert_eq!(unknown["error"]["reason"], "REQUEST_INVALID", "{unknown}");
        let told = unknown["error"]["message"].as_str().expect("a message");
        assert!(told.contains("\"nowhere\"") && told.contains("second (far)"), "{told}");

        let _ = switchboard.cli(&["credentials", "egress", "main", "--none"]).await.ok();
        assert_eq!(egress(&call(&switchboard, "codex/gpt-5.5").await.ok().json()), "local");
    }

    /// Two rules of which no egress satisfies both: no request is made, both are named, and another credential of the
    /// route serves, for calls and for the status alike.
    async fn rules_that_contradict_each_other_leave_no_egress(topology) {
        let (world, _) = World::with_login().await;
        configure_second(&world.home);
        world.home.set("providers.openai-codex.egress.require", "[\"local\"]");
        let _ = world.home.cli(&["credentials", "egress", "main", "--require", SECOND]).await.ok();
        let switchboard = world.start(topology).await;
        let _second = start_second(&world.home).await;
        let failed = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        assert_eq!(failed["error"]["reason"], "CREDENTIAL_NOT_BOUND", "{failed}");
        let text = failed["error"].to_string();
        for words in ["requires local", "credential main requires second", "none satisfies both", "credentials egress main"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(world.upstream().is_empty());
        let found = status(&switchboard).await;
        let route = only_route(&found);
        assert_eq!((&route["bound"], route["error"]["reason"].as_str()), (&Value::Null, Some("CREDENTIAL_NOT_BOUND")));

        let _ = world.login("acct-2", "other").await;
        let found = status(&switchboard).await;
        assert_eq!(only_route(&found)["bound"]["credential"], "other", "{found}");
        let answer = call(&switchboard, "codex/gpt-5.5").await.ok().json();
        assert!(answer.to_string().contains("\"credential\":\"other\""), "{answer}");
    }
}
