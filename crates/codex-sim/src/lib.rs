//! A simulated Codex backend and identity provider.
//!
//! It exists so that Switchboard can be tried, tested and measured without an account and without a
//! network. The rule it follows: **where the real backend is strict, or might be, it is strict too**, so
//! that a request which passes here is a request the real one has no known reason to refuse. What is not
//! settled about the real one is a setting ([`BodyRules`]), with the stricter choice as the default.
//!
//! One port serves everything, told apart by path: `/backend-api` (chatgpt.com), `/v1`
//! (api.openai.com), `/oauth`, `/api/accounts/deviceauth` and `/codex/device` (auth.openai.com), and
//! `/sim`, the administration interface of the simulator itself.
//!
//! ```no_run
//! # async fn example() -> Result<(), codex_sim::SimError> {
//! use codex_sim::{Scenario, SeedLogin, Sim, SimConfig};
//!
//! let sim = Sim::start(SimConfig::default()).await?;
//! let login = sim.state().seed_login(SeedLogin::account("acct-1"));
//! sim.state().set_scenario("acct-1", Some(Scenario::UsageLimit { resets_in: 60 }));
//! // … POST {sim.codex_base_url()}/responses with login.access_token …
//! assert!(sim.state().requests().iter().all(|request| request.credential.is_some()));
//! sim.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! How a request finds its behaviour is told in [`scenario`]; how failing token endpoints are asked for,
//! in [`TokenScenario`].
//!
//! Every account has a [`Quota`] ([`SimState::set_quota`], `POST /sim/quota`): the rate limit headers of each answer,
//! the refusal of a limit that is used up, and `/backend-api/wham/usage` are all made from it. The scenario
//! `usage_limit` uses up its first window; the usage endpoint agrees unless the test has set a quota.

mod admin;
mod backend;
mod call;
mod config;
mod identity;
mod record;
mod reply;
mod responses;
mod route;
pub mod scenario;
mod server;
mod state;
mod tokens;

pub use crate::{
    config::{AccountSpec, BodyRules, HeaderVerdict, SimConfig, TlsMode},
    identity::fault::{TokenFault, TokenScenario},
    record::{RecordedRequest, TokenRequest},
    scenario::{Scenario, UnknownScenario},
    server::{Sim, SimError},
    state::{
        AdoptTokens, LoginStats, Quota, QuotaLimit, QuotaWindow, SeedLogin, SeededLogin, SimState, StateError, Stats,
    },
    tokens::CLIENT_ID,
};
