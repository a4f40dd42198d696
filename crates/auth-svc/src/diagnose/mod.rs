//! What is wrong, or will be: the same findings for `doctor`, for `health` and for the admin port, and the gauges of
//! the metrics page. Everything is read anew for `doctor` and `health`. What asks the admin port again and again, as any
//! local process may, shares findings of a few seconds.

mod credential;
mod gauges;
mod places;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::Config;
use domain::{Clock, Failure, Reason};
use proto::auth::v1 as pb;
use service_kit::Finding;
use service_kit::harden::{ALLOW_CORE, Memory, memory};
use telemetry::metrics::Sample;
use tokio::sync::Mutex;

use self::credential::Facts;
use crate::grpc::Credentials;
use crate::identity::NoAnswer;
use crate::refresh::Refresher;
use crate::store::{AgentKey, Credential, Store, StoreError};

pub(crate) use places::Places;

/// An agent key that ends within this time is worth a word, in seconds.
const KEY_ENDS_S: i64 = 7 * 24 * 3600;

/// How old findings may be for those who ask again and again.
const LATELY: Duration = Duration::from_secs(5);

/// Looks at everything that auth-svc has. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Diagnosis {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    refresher: Refresher,
    credentials: Credentials,
    clock: Clock,
    needed: Vec<Needed>,
    places: Places,
    /// The findings that were last asked for, and when.
    lately: Mutex<Option<(Instant, Vec<Finding>)>>,
}

/// A provider that calls go to by the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Needed {
    provider: String,
    /// The model that leads to it.
    model: String,
    /// True if it is the first that is tried.
    first: bool,
}

impl Diagnosis {
    pub(crate) fn new(
        store: Store,
        refresher: Refresher,
        credentials: Credentials,
        clock: Clock,
        config: &Config,
        places: Places,
    ) -> Self {
        telemetry::metrics::expect_refreshes();
        let needed = needed(config);
        let lately = Mutex::new(None);
        Self { inner: Arc::new(Inner { store, refresher, credentials, clock, needed, places, lately }) }
    }

    /// As [`Self::findings`], at most [`LATELY`] old. Those who ask meanwhile wait for one answer.
    pub(crate) async fn lately(&self) -> Vec<Finding> {
        let mut lately = self.inner.lately.lock().await;
        if let Some((_, findings)) = lately.as_ref().filter(|(at, _)| at.elapsed() < LATELY) {
            return findings.clone();
        }
        let findings = self.look(self.inner.store.check().await).await;
        *lately = Some((Instant::now(), findings.clone()));
        findings
    }

    /// Everything that was looked at just now, errors first. Whoever asks again and again hears of it, too.
    pub(crate) async fn findings(&self) -> Vec<Finding> {
        let findings = self.look(self.inner.store.check_now().await).await;
        *self.inner.lately.lock().await = Some((Instant::now(), findings.clone()));
        findings
    }

    /// `takes_writes`: what the database said when it was asked.
    async fn look(&self, takes_writes: Result<(), StoreError>) -> Vec<Finding> {
        let inner = &self.inner;
        let now = inner.clock.now_s();
        let mut findings = self.pending();
        match takes_writes {
            Ok(()) => findings.extend(self.rows(now).await.unwrap_or_else(|failure| vec![unreadable(&failure)])),
            Err(error) => findings.push(unreadable(&Failure::from(error))),
        }
        let (places, database) = (inner.places.clone(), inner.store.path().to_owned());
        // A disk, and all the more one over a network, may take its time.
        findings.extend(tokio::task::spawn_blocking(move || places.findings(&database)).await.unwrap_or_default());
        findings.push(of_memory(memory()));
        findings.sort_by_key(|finding| finding.severity);
        findings
    }

    /// What the database holds.
    async fn rows(&self, now: i64) -> Result<Vec<Finding>, Failure> {
        let inner = &self.inner;
        let credentials = inner.store.list_credentials(None).await?;
        let mut findings = Vec::new();
        let all = inner.credentials.show_all(&credentials).await?;
        for (stored, shown) in credentials.iter().zip(&all) {
            let found = credential::findings(&Facts::of(stored, inner.refresher.outlook(stored)), shown, now);
            let serves = |other: &pb::Credential| matches!(other.state.as_str(), "ready" | "login_due");
            let over = shown.state == "needs_login";
            let beside = all.iter().find(|other| over && other.provider == shown.provider && serves(other));
            findings.extend(found.into_iter().map(|finding| credential::beside(finding, beside)));
            findings.extend(self.no_way_out(stored));
        }
        let has = |provider: &str| credentials.iter().any(|credential| credential.provider == provider);
        findings.extend(inner.needed.iter().filter(|needed| !has(&needed.provider)).map(nobody_for));
        findings.extend(of_keys(&inner.store.list_agent_keys().await?, now));
        Ok(findings)
    }

    /// That the egress which a credential requires is not configured any more.
    fn no_way_out(&self, stored: &Credential) -> Option<Finding> {
        let NoAnswer(cause) = self.inner.refresher.identity().by(&stored.egress).err()?;
        let step = format!("configure it, or change the rule: `switchboard credentials egress {}`", stored.label);
        let finding = Finding::error(format!("credential {}", stored.label), cause);
        Some(finding.next(step).reason(Reason::CredentialNotBound))
    }

    fn pending(&self) -> Vec<Finding> {
        let waiting = self.inner.refresher.pending();
        if waiting.is_empty() {
            return Vec::new();
        }
        let path = self.inner.store.path().display();
        let message = format!("refreshed tokens wait in memory for {path} to take them: {}", waiting.join(", "));
        let step =
            "mend the database before this process ends, or these logins are lost; it is tried again all the time";
        vec![Finding::error("pending writes", message).next(step).reason(Reason::StoreUnavailable)]
    }

    /// Every credential as an operator sees it.
    async fn shown(&self) -> Result<Vec<pb::Credential>, Failure> {
        let credentials = self.inner.store.list_credentials(None).await?;
        self.inner.credentials.show_all(&credentials).await
    }

    /// The gauges of this moment.
    pub(crate) async fn gauges(&self) -> Vec<Sample> {
        let inner = &self.inner;
        let shown = self.shown().await.unwrap_or_else(|failure| {
            tracing::warn!(%failure, "the metrics page lacks the credentials");
            Vec::new()
        });
        gauges::samples(&shown, inner.refresher.pending().len(), inner.clock.now_s())
    }
}

/// The providers of the default model and its fallbacks.
fn needed(config: &Config) -> Vec<Needed> {
    let models = std::iter::once((&config.defaults.model, true))
        .chain(config.defaults.fallbacks.iter().map(|model| (model, false)));
    let mut needed: Vec<Needed> = Vec::new();
    for (model, first) in models {
        // A bare name goes to the default model's provider, which is there already.
        let Some((prefix, _)) = model.split_once('/') else { continue };
        let named = |(name, provider): &(&String, &config::Provider)| {
            name.as_str() == prefix || provider.aliases.iter().any(|alias| alias == prefix)
        };
        let Some((provider, _)) = config.providers.iter().find(named) else { continue };
        if !needed.iter().any(|known| known.provider == *provider) {
            needed.push(Needed { provider: provider.clone(), model: model.clone(), first });
        }
    }
    needed
}

fn nobody_for(needed: &Needed) -> Finding {
    let Needed { provider, model, first } = needed;
    let subject = format!("provider {provider}");
    let found = if *first {
        Finding::error(subject, format!("there is no credential of it, and the default model {model} needs one"))
    } else {
        Finding::warning(subject, format!("there is no credential of it, so the fallback {model} cannot be used"))
    };
    let step = match provider.as_str() {
        "openai-codex" => {
            "add one: `switchboard login codex`, `switchboard import codex` or `switchboard import openclaw`"
        }
        _ => "add one: `switchboard login api-key` or an import",
    };
    found.next(step).reason(Reason::CredentialNotBound)
}

fn of_keys(keys: &[AgentKey], now: i64) -> Vec<Finding> {
    let live: Vec<&AgentKey> =
        keys.iter().filter(|key| key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now)).collect();
    if live.is_empty() {
        let step = "make one: `switchboard keys create NAME`";
        return vec![Finding::warning("agent keys", "there is no live key: no agent can call").next(step)];
    }
    let ending = |key: &&&AgentKey| key.expires_at.is_some_and(|at| at - now <= KEY_ENDS_S);
    let found: Vec<Finding> = live
        .iter()
        .filter(ending)
        .map(|key| {
            let at = domain::when(key.expires_at.unwrap_or(now), now);
            Finding::warning(format!("agent key {}", key.name), format!("agent {}'s key expires at {at}", key.agent))
                .next("make another with `switchboard keys create` and give it to the agent")
        })
        .collect();
    if found.is_empty() { vec![Finding::ok("agent keys", format!("{} live", live.len()))] } else { found }
}

fn unreadable(failure: &Failure) -> Finding {
    Finding::error("database", failure.message.clone()).next(failure.next_step.clone()).reason(failure.reason)
}

fn of_memory(memory: Memory) -> Finding {
    match memory {
        Memory::Closed => Finding::ok("memory", "no core dumps, and no debugger of the same user reads its memory"),
        Memory::Allowed => {
            Finding::warning("memory", format!("{ALLOW_CORE}=1 lets core dumps and debuggers read its secrets"))
                .next("start it without the variable when you are done")
        }
        Memory::Open => Finding::warning("memory", "core dumps and debuggers of the same user can read its secrets")
            .next("start it by its own command, which forbids both"),
    }
}
