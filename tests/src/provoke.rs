//! Every reason, brought about from outside: by what the upstream does, by configuration, by a key, by what is killed.
//!
//! [`provoke`] starts a deployment in which a certain call fails for a certain reason, each time it is made. The suite
//! over the faces (`tests/e2e/reasons.rs`) and the one with real clients (`tests/clients/matrix.rs`) make that call.

use std::any::Any;
use std::time::Duration;

use codex_sim::{Scenario, SeedLogin, Sim, SimConfig};
use domain::Reason;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::home::Home;
use crate::process::Process;
use crate::switchboard::Switchboard;
use crate::topology::{Part, Topology};

/// The model that calls ask for where nothing is wrong with the name.
const MODEL: &str = "codex/gpt-5.5";
/// How often a call can be made until accounts are used up that rest after one refusal.
const ACCOUNTS: usize = 8;

/// A deployment in which a call fails for one reason.
pub struct Provoked {
    /// The reason.
    pub reason: Reason,
    /// Its upstream.
    pub sim: Sim,
    /// Its place.
    pub home: Home,
    /// Its services.
    pub switchboard: Switchboard,
    /// The key to call with.
    pub key: String,
    /// Where under the gateway's address the API is: `/v1`.
    pub base: &'static str,
    /// The call: a Responses body with `model` and `input`.
    pub body: Value,
    /// Headers (gRPC: metadata) that the call needs.
    pub headers: Vec<(&'static str, &'static str)>,
    /// What has to last as long as this does.
    kept: Vec<Box<dyn Any + Send>>,
}

impl std::fmt::Debug for Provoked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provoked").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Why a call cannot be made to fail for a reason from outside; `None` if [`provoke`] can do it.
pub fn beyond_reach(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::PeerRefused => Some("the socket's mode keeps other users out before a service can refuse them"),
        Reason::Internal => Some("it is a defect"),
        Reason::Cancelled => Some("whoever cancels a call does not see what becomes of it"),
        _ => None,
    }
}

/// Starts a deployment in which calls fail for `reason`.
///
/// # Panics
///
/// If it cannot be set up, or the reason is [`beyond_reach`].
pub async fn provoke(reason: Reason, topology: Topology) -> Provoked {
    if let Some(why) = beyond_reach(reason) {
        panic!("{reason} cannot be provoked: {why}");
    }
    let sim = Sim::start(SimConfig::default()).await.expect("a simulator");
    let home = Home::new(&sim);
    let mut kept: Vec<Box<dyn Any + Send>> = Vec::new();
    credentials(reason, &sim, &home).await;
    configure(reason, &sim, &home);
    if reason == Reason::SealRefused {
        kept.push(Box::new(foreign_transport(&sim, &home).await));
    }
    let mut switchboard = Switchboard::start(&home, topology).await;
    let key = key(reason, &switchboard, &mut kept).await;
    if reason == Reason::StoreUnavailable {
        fill_disk(&mut switchboard);
    }
    if let Some(scenario) = upstream(reason) {
        sim.state().set_scenario("*", Some(scenario.parse::<Scenario>().expect("a scenario")));
    }
    let base = if reason == Reason::NotFound { "/v1/nowhere" } else { "/v1" };
    Provoked { reason, base, body: body(reason), headers: headers(reason), sim, home, switchboard, key, kept }
}

impl Provoked {
    /// Where the API is, as clients are told it: `http://host:port/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}{}", self.switchboard.address(), self.base)
    }

    /// Keeps something for as long as the deployment lasts.
    pub fn keep(&mut self, what: impl Any + Send) {
        self.kept.push(Box::new(what));
    }
}

/// What the upstream does.
fn upstream(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::CredentialRejected => "unauthorized",
        Reason::NotEntitled => "json_403",
        Reason::PolicyRefused => "policy",
        Reason::UsageLimit => "usage_limit:7200",
        Reason::RateLimited => "rate_limit:1",
        Reason::UpstreamOverloaded => "overloaded",
        Reason::UpstreamError => "server_error",
        Reason::UpstreamTimeout | Reason::Deadline => "no_headers",
        Reason::EdgeChallenge => "challenge",
        Reason::EdgeBlocked => "block",
        Reason::ContextTooLong => "context_too_long",
        Reason::ClientOutdated => "client_too_old",
        Reason::StreamCut => "cut_before_event",
        Reason::StreamIdle => "silence:0",
        _ => return None,
    })
}

/// What stands in the configuration.
fn configure(reason: Reason, sim: &Sim, home: &Home) {
    let quoted = |text: &str| Value::from(text).to_string();
    // Clients that ask often are to meet the failure each time, not a circuit that it has opened.
    home.set("gateway.circuit_failures", "1000");
    match reason {
        Reason::RequestTooLarge => home.set("gateway.max_body_bytes", "1024"),
        Reason::Shed => home.set("gateway.max_calls", "1"),
        Reason::UpstreamTimeout => home.set("transport.headers_timeout", "\"1s\""),
        Reason::StreamIdle => home.set("transport.idle_timeout", "\"1s\""),
        Reason::WrongEndpoint => {
            let right = sim.codex_base_url();
            let wrong = right.strip_suffix("/codex").expect("the backend's path");
            home.set("targets.chatgpt-codex.base_url", quoted(wrong))
        }
        Reason::EgressUnreachable => {
            home.set("targets.chatgpt-codex.base_url", quoted(&format!("http://{}/backend-api/codex", closed_port())))
        }
        Reason::PeerUnavailable => {
            let nowhere = format!("unix://{}", home.path("nowhere.sock").display());
            home.set("gateway.transports.local.address", quoted(&nowhere))
        }
        _ => home,
    };
}

/// Which credentials there are.
async fn credentials(reason: Reason, sim: &Sim, home: &Home) {
    match reason {
        Reason::CredentialNotBound => {}
        Reason::CredentialNeedsLogin | Reason::IdentityUnavailable | Reason::StoreUnavailable => {
            let seed = SeedLogin { access_ttl: Some(Duration::ZERO), ..SeedLogin::account("acct-1") };
            import(home, &home.codex_login(sim, seed).1, "main").await;
            let fault = match reason {
                Reason::CredentialNeedsLogin => "expired",
                Reason::IdentityUnavailable => "server_error",
                _ => return,
            };
            sim.state().set_token_scenario("*", Some(fault.parse().expect("a token scenario")));
        }
        Reason::NotEntitled => {
            // A credential that was refused rests; the next call takes another one.
            for number in 0..ACCOUNTS {
                let _ = home.import_codex(sim, &format!("acct-{number}"), &format!("c{number}")).await;
            }
        }
        _ => {
            let _ = home.import_codex(sim, "acct-1", "main").await;
        }
    }
}

async fn import(home: &Home, file: &std::path::Path, label: &str) {
    let _ = home.cli(&["import", "codex", &file.to_string_lossy(), "--label", label]).await.ok();
}

/// The key to call with.
async fn key(reason: Reason, switchboard: &Switchboard, kept: &mut Vec<Box<dyn Any + Send>>) -> String {
    match reason {
        Reason::AgentKeyInvalid => format!("sbk_{}", "A".repeat(switchboard.key().len() - 4)),
        Reason::AgentNotAllowed => create(switchboard, &["--model", "openai/*"]).await,
        Reason::AgentLimited => {
            let key = create(switchboard, &["--concurrent", "1"]).await;
            // Its one call.
            kept.push(Box::new(endless(switchboard, &key).await));
            key
        }
        Reason::Shed => {
            // The one call that there is room for is under way, and does not end by itself.
            let key = switchboard.key();
            kept.push(Box::new(endless(switchboard, &key).await));
            key
        }
        _ => switchboard.key(),
    }
}

/// A call that is under way, and does not end by itself.
async fn endless(switchboard: &Switchboard, key: &str) -> reqwest::Response {
    let body = json!({ "model": MODEL, "input": "[[sim:silence:4]]", "stream": true });
    let open = switchboard.http_as(Some(key)).open(&body).await;
    assert_eq!(open.status(), 200);
    open
}

async fn create(switchboard: &Switchboard, limits: &[&str]) -> String {
    let all: Vec<&str> = ["keys", "create", "provoking"].iter().chain(limits).copied().collect();
    switchboard.cli(&all).await.ok().stdout.trim().to_owned()
}

/// What is asked.
fn body(reason: Reason) -> Value {
    let mut body = json!({ "model": MODEL, "input": "Reply exactly: OK" });
    match reason {
        Reason::RequestInvalid => body["model"] = "codex/".into(),
        Reason::RequestTooLarge => body["input"] = "long ".repeat(1000).into(),
        Reason::Unsupported => body["previous_response_id"] = "resp_1".into(),
        Reason::RouteUnknown => body["model"] = "codx/gpt-5.5".into(),
        // The simulator refuses what it does not know, as the backend does.
        Reason::RequestRejected => body["input"] = "[[sim:no_such_scenario]]".into(),
        _ => {}
    }
    body
}

fn headers(reason: Reason) -> Vec<(&'static str, &'static str)> {
    if reason == Reason::Deadline { vec![("grpc-timeout", "1S")] } else { Vec::new() }
}

/// `host:port` where nobody listens.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// A transport service with a seal key of its own, in a place of its own, at which `home`'s gateway asks.
async fn foreign_transport(sim: &Sim, home: &Home) -> (Process, Home) {
    let other = Home::new(sim);
    let data = other.path("data");
    std::fs::create_dir(&data).expect("made");
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("made private");
    let key = other.path("seal.key");
    service_kit::SecretKey::generate().expect("a key").write_new(&key).expect("written");
    other.set("transport.seal_key_file", Value::from(key.to_string_lossy().as_ref()).to_string());
    let name = Part::Transport.name();
    let mut process = Process::spawn(name, other.command(name), &other.log_file(name));
    let _ = process.listening(&[name], crate::PATIENCE).await.unwrap_or_else(|story| panic!("{story}"));
    let socket = format!("unix://{}", data.join("transport-svc.sock").display());
    home.set("gateway.transports.local.address", Value::from(socket).to_string());
    (process, other)
}

/// Lets the process that has the database write to no file any more.
fn fill_disk(switchboard: &mut Switchboard) {
    let id = switchboard.process(Part::Auth).id();
    let pid = Pid::from_raw(id.try_into().expect("a process id")).expect("a process id");
    let limit = Rlimit { current: Some(0), maximum: None };
    prlimit(Some(pid), Resource::Fsize, limit).expect("a child's limits can be set");
}
